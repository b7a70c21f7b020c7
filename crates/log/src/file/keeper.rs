//! The thread that keeps files ready: makes spares ahead of need, recycles or removes what was released.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::recover::LogFile;
use super::shared::{Shared, State};
use super::spares;

/// After a failure, so long until the next attempt unless something is released before.
const RETRY: Duration = Duration::from_millis(500);

enum Task {
    Release(LogFile, Option<u64>),
    Make(u64),
    End,
}

/// Runs until the log is closed.
pub(super) fn run(shared: &Arc<Shared>) {
    loop {
        match next_task(shared) {
            Task::Release(file, spare) => {
                // The file stays where it is; the next open finds it below what is needed.
                if let Err(error) = release(shared, file, spare) {
                    tracing::warn!(%error, "cannot recycle a file of the node's log");
                }
            }
            Task::Make(number) => {
                if let Err(error) = make(shared, number) {
                    tracing::warn!(%error, "cannot make a file for the node's log");
                    wait_to_retry(shared, error);
                }
            }
            Task::End => return,
        }
    }
}

fn wait_to_retry(shared: &Shared, error: io::Error) {
    let mut state = shared.state.lock();
    state.no_spare = Some(Arc::new(error));
    shared.work.notify_all();
    // Each append may wake this thread.
    let until = Instant::now() + RETRY;
    while !state.closing && state.released.is_empty() {
        if shared.housekeeping.wait_until(&mut state, until).timed_out() {
            break;
        }
    }
}

fn next_task(shared: &Shared) -> Task {
    let mut state = shared.state.lock();
    loop {
        if state.closing {
            return Task::End;
        }
        if let Some(file) = state.released.pop_front() {
            // One more than is made ahead: what comes back in a burst is used again in the next.
            let keep =
                file.len == shared.config.file_bytes && state.spares.len() <= shared.config.spare_files;
            return Task::Release(file, keep.then(|| next_number(&mut state)));
        }
        if state.wants_spare(shared.config.spare_files) {
            return Task::Make(next_number(&mut state));
        }
        shared.housekeeping.wait(&mut state);
    }
}

fn next_number(state: &mut State) -> u64 {
    state.next_spare += 1;
    state.next_spare - 1
}

fn release(shared: &Shared, file: LogFile, spare: Option<u64>) -> io::Result<()> {
    match spare {
        Some(number) => {
            let spare = spares::recycle(&*shared.disk, file, number)?;
            keep(shared, spare);
            Ok(())
        }
        None => spares::remove(&*shared.disk, &file),
    }
}

fn make(shared: &Shared, number: u64) -> io::Result<()> {
    let go_on = || !shared.state.lock().closing;
    if let Some(spare) = spares::make(&*shared.disk, number, shared.config.file_bytes, &go_on)? {
        keep(shared, spare);
    }
    Ok(())
}

fn keep(shared: &Shared, spare: spares::Spare) {
    let mut state = shared.state.lock();
    state.spares.push(spare);
    state.no_spare = None;
    shared.work.notify_all();
}
