//! Mounts for tests: in a mount namespace of the test's thread, so that nothing is left behind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zorya_storage::store::VolumeStore;
use zorya_types::VolumeId;
use zorya_volume::daemon::{Mounted, Stopper};
use zorya_volume::mount::FuseMount;
use zorya_volume::volume::Volume;
use zorya_volume::{EngineClass, MountError, MountOptions};

use super::memory_store::MemoryStore;

/// A mounted volume. Ends with the test.
pub struct TestMount {
    pub dir: TempDir,
    pub root: PathBuf,
    pub status_file: PathBuf,
    pub volume: Arc<Volume>,
    mount: FuseMount,
    stopper: Stopper,
    daemon: Option<JoinHandle<Result<(), MountError>>>,
}

/// Whether this machine can mount; says why not.
pub fn can_mount() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let fuse = Path::new("/dev/fuse").exists();
    if !root || !fuse {
        eprintln!("SKIPPED: mounting needs root (have: {root}) and /dev/fuse (have: {fuse})");
    }
    root && fuse
}

/// Puts the calling thread into a mount namespace of its own. Once per test, before anything is mounted.
pub fn own_namespace() {
    zorya_volume::mount::enter_private_namespace().unwrap();
}

/// A mount over a new store in memory; `None` where this machine cannot mount.
pub fn mounted(class: EngineClass) -> Option<(TestMount, MemoryStore)> {
    if !can_mount() {
        return None;
    }
    own_namespace();
    let store = MemoryStore::new();
    Some((TestMount::new(Arc::new(store.clone()), class), store))
}

impl TestMount {
    pub fn new(store: Arc<dyn VolumeStore>, class: EngineClass) -> TestMount {
        TestMount::with_cache(store, class, 64 << 20)
    }

    pub fn with_cache(store: Arc<dyn VolumeStore>, class: EngineClass, cache_bytes: u64) -> TestMount {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("mnt");
        std::fs::create_dir(&root).unwrap();
        // Engines run as other users.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let status_file = dir.path().join("status.json");
        let options = MountOptions {
            mountpoint: root.clone(),
            class,
            cache_bytes,
            local_dir: dir.path().join("local"),
            status_file: Some(status_file.clone()),
            threads: 4,
            private_namespace: false,
            volume: VolumeId(7),
            owner: None,
        };
        let (ready, started) = channel();
        // A thread that is started here shares this thread's namespace.
        let daemon = thread::spawn(move || {
            let mounted = Mounted::start(options, store)?;
            ready.send((mounted.stopper(), Arc::clone(mounted.volume()), mounted.mount().clone())).unwrap();
            mounted.serve()
        });
        let (stopper, volume, mount) = match started.recv() {
            Ok(started) => started,
            Err(_) => panic!("{:?}", daemon.join()),
        };
        TestMount { dir, root, status_file, volume, mount, stopper, daemon: Some(daemon) }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// Unmounts cleanly.
    pub fn stop(mut self) -> Result<(), MountError> {
        self.stopper.stop();
        self.daemon.take().unwrap().join().unwrap()
    }

    /// Waits for the daemon to end by itself.
    pub fn outcome(mut self) -> Result<(), MountError> {
        self.daemon.take().unwrap().join().unwrap()
    }
}

impl Drop for TestMount {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            if thread::panicking() {
                // A failed test may leave requests waiting for ever: end them, so that the failure shows.
                self.mount.abort();
            } else {
                self.stopper.stop();
            }
            let _ = daemon.join();
        }
    }
}

/// Waits until something holds; panics after a long while.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a command to its end and returns what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
