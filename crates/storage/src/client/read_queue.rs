//! Reads that come while others are under way are asked for together: one request and one answer for many keys.
//!
//! A read that finds few requests under way is asked for at once. The others gather until one of those is answered; a
//! recovering engine, which prefetches blocks by the hundred, then costs a fraction of the messages.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use zorya_types::{GroupId, Key};

use super::reader::{KEYS, Reader};
use crate::store::{Done, ReadFailed};

/// So many requests are under way before reads gather.
const UNDER_WAY: usize = 4;

type Outcome = Result<Vec<Option<Bytes>>, ReadFailed>;

struct Waiting {
    keys: Vec<(GroupId, Key)>,
    done: Done<Outcome>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    under_way: usize,
}

/// The reads of one client.
pub struct ReadQueue {
    reader: Arc<Reader>,
    runtime: Handle,
    state: Mutex<State>,
}

impl ReadQueue {
    /// An empty queue in front of `reader`, whose requests run on `runtime`.
    pub fn new(reader: Arc<Reader>, runtime: Handle) -> Arc<ReadQueue> {
        Arc::new(ReadQueue { reader, runtime, state: Mutex::default() })
    }

    /// Reads keys as of a VDL at or above that of the call, and calls `done` from the runtime.
    pub fn read(self: &Arc<Self>, keys: Vec<(GroupId, Key)>, done: Done<Outcome>) {
        let mut state = self.state.lock();
        state.waiting.push(Waiting { keys, done });
        if state.under_way == UNDER_WAY {
            return;
        }
        state.under_way += 1;
        drop(state);
        let queue = self.clone();
        self.runtime.spawn(async move { queue.work().await });
    }

    /// Asks for what waits until nothing does.
    async fn work(&self) {
        loop {
            let batch = {
                let mut state = self.state.lock();
                let batch = take_batch(&mut state.waiting);
                if batch.is_empty() {
                    state.under_way -= 1;
                    return;
                }
                batch
            };
            self.answer(batch).await;
        }
    }

    async fn answer(&self, batch: Vec<Waiting>) {
        if batch.len() > 1 {
            let keys = batch.iter().flat_map(|waiting| waiting.keys.iter().copied()).collect();
            if let Ok(values) = self.reader.read(keys).await {
                let mut values = values.into_iter();
                for Waiting { keys, done } in batch {
                    done(Ok(values.by_ref().take(keys.len()).collect()));
                }
                return;
            }
        }
        // One alone, or one of them cannot be read, which must not fail the others.
        for Waiting { keys, done } in batch {
            done(self.reader.read(keys).await);
        }
    }
}

/// The oldest reads, as many as fit into one request; at least one.
fn take_batch(waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
    let mut keys = 0;
    let fits = |read: &&Waiting| {
        keys += read.keys.len();
        keys <= KEYS
    };
    let count = waiting.iter().take_while(fits).count().max(1).min(waiting.len());
    waiting.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zorya_types::FileKey;

    fn reads(lens: &[usize]) -> Vec<Waiting> {
        let key = (GroupId(0), Key::block(FileKey::inode(1), 0));
        lens.iter().map(|len| Waiting { keys: vec![key; *len], done: Box::new(drop) }).collect()
    }

    fn batches(lens: &[usize]) -> Vec<usize> {
        let mut waiting = reads(lens);
        std::iter::from_fn(|| Some(take_batch(&mut waiting).len()).filter(|len| *len > 0)).collect()
    }

    #[test]
    fn a_batch_is_as_many_reads_as_fit_into_a_request_and_never_none() {
        assert_eq!(batches(&[]), [] as [usize; 0]);
        assert_eq!(batches(&[1; 3]), [3]);
        assert_eq!(batches(&[1; KEYS + 2]), [KEYS, 2]);
        assert_eq!(batches(&[2 * KEYS, 1, KEYS, 1]), [1, 1, 1, 1]);
    }
}
