//! A region of storage nodes inside the test's process: real nodes, disks and sockets.
#![allow(clippy::unwrap_used, reason = "in a test, what must not fail may panic")]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use zorya_redo::byte_range::Encoder;
use zorya_storage::client::{self, Client, ClientOptions, CreateOptions, Placement};
use zorya_storage::node::{NodeLimits, NodeOptions, serve};
use zorya_storage::store::{NewRecord, VolumeLost, VolumeStore};
use zorya_types::{GroupId, Key, Lsn, NodeId, Profile, VolumeId};
use zorya_wire::handshake::RegionKey;
use zorya_wire::record::CODEC_BYTE_RANGE;

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

struct RunningNode {
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

/// Six nodes in three zones.
pub struct Region {
    directory: tempfile::TempDir,
    pub key: RegionKey,
    pub addresses: Vec<String>,
    nodes: Vec<Option<RunningNode>>,
}

fn name(index: usize) -> (String, String) {
    (format!("az{}-{}", index / 2 + 1, ["a", "b"][index % 2]), format!("az{}", index / 2 + 1))
}

impl Region {
    pub fn start() -> Region {
        let key = RegionKey { region: rand::random(), secret: rand::random() };
        let directory = tempfile::tempdir().unwrap();
        let mut region = Region { directory, key, addresses: Vec::new(), nodes: Vec::new() };
        for index in 0..6 {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            region.addresses.push(listener.local_addr().unwrap().to_string());
            region.nodes.push(None);
            drop(listener);
            region.start_node(index);
        }
        region
    }

    pub fn data(&self, index: usize) -> std::path::PathBuf {
        self.directory.path().join(name(index).0)
    }

    pub fn start_node(&mut self, index: usize) {
        let (id, zone) = name(index);
        let status_file = self.directory.path().join(format!("{id}.json"));
        let _ = std::fs::remove_file(&status_file);
        let options = NodeOptions {
            id: NodeId(id),
            zone,
            data: self.data(index),
            listen: self.addresses[index].clone(),
            key: self.key.clone(),
            status_file: Some(status_file.clone()),
            limits: NodeLimits { log_file_bytes: 8 << 20, flush_bytes: 1 << 20, ..NodeLimits::default() },
        };
        let stop = CancellationToken::new();
        let token = stop.clone();
        let (failed, failure) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            if let Err(error) = runtime.block_on(serve(options, token)) {
                let _ = failed.send(format!("{error:?}"));
            }
        });
        wait_until("the node listens", || {
            if let Ok(error) = failure.try_recv() {
                panic!("node {index}: {error}");
            }
            Path::new(&status_file).exists()
        });
        self.nodes[index] = Some(RunningNode { stop, thread });
    }

    pub fn stop_node(&mut self, index: usize) {
        if let Some(node) = self.nodes[index].take() {
            node.stop.cancel();
            node.thread.join().unwrap();
        }
    }

    pub fn create_volume(&self) -> VolumeId {
        let volume = VolumeId(rand::random());
        let placement = |index: usize| Placement {
            node: NodeId(name(index).0),
            zone: name(index).1,
            address: self.addresses[index].clone(),
        };
        let options = CreateOptions {
            volume,
            profile: Profile::named("6/3az").unwrap(),
            nodes: (0..6).map(placement).collect(),
            key: self.key.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(client::create_volume(&options)).unwrap();
        volume
    }

    pub fn open(&self, volume: VolumeId) -> Arc<Client> {
        self.open_reaped(volume, true)
    }

    pub fn open_reaped(&self, volume: VolumeId, reaped: bool) -> Arc<Client> {
        let options = ClientOptions {
            volume,
            addresses: self.addresses.clone(),
            key: self.key.clone(),
            reaped,
            progress: Arc::new(|_| {}),
        };
        client::open(options).unwrap()
    }

    pub fn status(&self, index: usize) -> serde_json::Value {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let json = runtime.block_on(client::node_status(&self.addresses[index], &self.key)).unwrap();
        serde_json::from_str(&json).unwrap()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|index| self.stop_node(index));
    }
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn put(store: &dyn VolumeStore, key: u64, value: &[u8]) -> Lsn {
    let mut encoder = Encoder::new();
    encoder.put(Key::inode(key), value);
    let payload = encoder.finish();
    let groups = [GroupId(0)];
    store.append(NewRecord { codec: CODEC_BYTE_RANGE, payload: &[&payload], groups: &groups }).unwrap()
}

pub fn durable(store: &dyn VolumeStore, lsn: Lsn) -> Result<(), VolumeLost> {
    try_durable(store, lsn, PATIENCE).expect("VDL did not rise in time")
}

pub fn try_durable(store: &dyn VolumeStore, lsn: Lsn, patience: Duration) -> Option<Result<(), VolumeLost>> {
    let (done, outcome) = mpsc::channel();
    store.when_durable(lsn, Box::new(move |result| drop(done.send(result))));
    outcome.recv_timeout(patience).ok()
}

pub fn get(store: &dyn VolumeStore, key: u64) -> Option<Bytes> {
    let (done, outcome) = mpsc::channel();
    store.read(&[(GroupId(0), Key::inode(key))], Box::new(move |result| drop(done.send(result))));
    outcome.recv_timeout(PATIENCE).expect("no answer to a read").unwrap().remove(0)
}
