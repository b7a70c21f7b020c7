//! A disk that fails stops the log for good; a disk that is full only makes it wait.

use super::sim_disk::Faults;
use super::*;
use crate::file::spares;

fn fill(opened: &Opened) -> (Vec<Found>, NodeLogError) {
    let mut taken = Vec::new();
    loop {
        let pieces = [Bytes::from(vec![7; 3000])];
        match opened.log.append(VolumeId(9), 4, &pieces, true) {
            Ok(position) => {
                opened.log.hurry();
                taken.push(Found { position, volume: VolumeId(9), kind: 4, payload: pieces[0].clone() });
            }
            Err(error) => return (taken, error),
        }
    }
}

#[test]
fn after_a_failed_sync_nothing_is_tried_again_and_nothing_unsynced_is_believed() {
    let disk = SimDisk::default();
    let opened = open_sim(&disk, small_files()).unwrap();
    let kept = opened.append(b"kept", true);
    opened.settle();
    disk.set_faults(Faults { sync_fails: true, ..Faults::default() });
    let lost = opened.append(b"lost", true);
    let LogEvent::Failed(error) = opened.notable() else { panic!("the sync did not fail") };
    assert!(error.to_string().contains("fdatasync"), "{error}");
    let refused = opened.log.append(VolumeId(9), 4, &[], true).unwrap_err();
    assert!(matches!(refused, NodeLogError::Stopped { .. }), "{refused}");
    assert_eq!(opened.log.read(lost.position).unwrap(), lost);
    assert!(opened.log.usage().stopped);
    opened.log.shutdown();
    let again = open_sim(&disk, small_files()).unwrap();
    assert_eq!((again.tail, again.found), (Tail::Clean, vec![kept]));
}

#[test]
fn who_waits_writes_on_a_quick_disk_and_the_logs_thread_on_a_slow_one() {
    let disk = SimDisk::default();
    let opened = open_sim(&disk, small_files()).unwrap();
    opened.append(b"written by who waits", true);
    assert_eq!(opened.log.usage().durable, opened.log.usage().next);
    disk.set_faults(Faults { sync_takes: Duration::from_millis(5), ..Faults::default() });
    opened.append(b"finds the disk slow", true);
    opened.settle();
    disk.set_faults(Faults { hold_syncs: true, ..Faults::default() });
    let handed_over = opened.append(b"handed over", true);
    assert!(opened.log.usage().durable <= handed_over.position);
    disk.set_faults(Faults::default());
    opened.settle();
}

#[test]
fn what_was_left_to_the_logs_thread_fails_for_who_waits_too() {
    let disk = SimDisk::default();
    let opened = open_sim(&disk, small_files()).unwrap();
    disk.set_faults(Faults { sync_fails: true, ..Faults::default() });
    opened.append(b"nobody waits", false);
    assert!(matches!(opened.notable(), LogEvent::Failed(NodeLogError::Stopped { step: "an fdatasync", .. })));
    opened.log.hurry();
    assert!(opened.log.append(VolumeId(9), 4, &[], true).is_err());
    assert!(opened.log.usage().durable < opened.log.usage().next);
}

#[test]
fn after_a_failed_write_the_log_stops() {
    let disk = SimDisk::default();
    let opened = open_sim(&disk, small_files()).unwrap();
    disk.set_faults(Faults { write_fails: true, ..Faults::default() });
    opened.append(b"lost", true);
    assert!(matches!(opened.notable(), LogEvent::Failed(NodeLogError::Stopped { step: "a write", .. })));
}

#[test]
fn a_full_disk_makes_the_log_wait_and_room_lets_it_go_on() {
    let disk = SimDisk::default();
    let opened = open_sim(&disk, small_files()).unwrap();
    disk.set_faults(Faults { capacity: Some(256 << 10), ..Faults::default() });
    let (mut taken, error) = fill(&opened);
    assert!(error.is_full(), "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert!(matches!(opened.notable(), LogEvent::Full(_)));
    assert!(opened.log.usage().full && opened.log.usage().pending_bytes > 0);
    disk.set_faults(Faults::default());
    assert!(matches!(opened.notable(), LogEvent::Room));
    taken.push(opened.append(b"after", true));
    opened.settle();
    opened.log.shutdown();
    let again = open_sim(&disk, small_files()).unwrap();
    assert_eq!((again.tail, again.found), (Tail::Clean, taken));
}

#[test]
fn no_file_is_begun_that_has_no_room() {
    const LEN: u64 = 64 << 10;
    let disk = SimDisk::default();
    let make = |free_bytes| {
        disk.set_faults(Faults { free_bytes: Some(free_bytes), ..Faults::default() });
        spares::make(&disk, 1, LEN, &|| true).map(|made| made.map(|spare| spare.len))
    };
    let error = make(LEN - 1).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert_eq!(disk.calls(), 0, "it takes nothing, not even for a moment");
    assert_eq!(make(LEN).unwrap(), Some(LEN));
}

#[test]
fn releasing_makes_room() {
    let disk = SimDisk::default();
    let opened = open_sim(&disk, small_files()).unwrap();
    disk.set_faults(Faults { capacity: Some(256 << 10), ..Faults::default() });
    let (taken, _) = fill(&opened);
    while opened.log.usage().durable < opened.log.usage().next {
        opened.log.release_below(opened.log.usage().durable);
        opened.events.recv_timeout(LONG).unwrap();
    }
    assert!(!opened.log.usage().full);
    assert_eq!(&opened.log.read(taken.last().unwrap().position).unwrap(), taken.last().unwrap());
}

#[test]
fn shutting_down_on_a_full_disk_ends_and_loses_only_what_was_not_durable() {
    let disk = SimDisk::default();
    let opened = open_sim(&disk, small_files()).unwrap();
    disk.set_faults(Faults { capacity: Some(256 << 10), ..Faults::default() });
    let (taken, _) = fill(&opened);
    assert!(matches!(opened.notable(), LogEvent::Full(_)));
    let durable = opened.log.usage().durable;
    opened.log.shutdown();
    let again = open_sim(&SimDisk::of(disk.now()), small_files()).unwrap();
    assert_eq!(again.tail, Tail::Clean);
    assert_eq!(again.found[..], taken[..again.found.len()]);
    assert!(again.found.len() >= taken.iter().filter(|entry| entry.position < durable).count());
}

#[test]
fn a_full_disk_at_open_is_said_to_be_full() {
    let disk = SimDisk::default();
    disk.set_faults(Faults { capacity: Some(1000), ..Faults::default() });
    let refused = open_sim(&disk, small_files()).err().unwrap();
    assert!(refused.to_string().contains("free 65536 bytes"), "{refused}");
    disk.set_faults(Faults::default());
    assert_eq!(open_sim(&disk, small_files()).unwrap().tail, Tail::Clean);
}

/// A file system of its own, unmounted at the end.
struct SmallMount {
    dir: tempfile::TempDir,
}

impl SmallMount {
    fn new(size: &str) -> Result<SmallMount, nix::errno::Errno> {
        let dir = tempfile::tempdir().unwrap();
        let (none, options) = (None::<&str>, Some(format!("size={size}")));
        nix::mount::mount(none, dir.path(), Some("tmpfs"), nix::mount::MsFlags::empty(), options.as_deref())?;
        Ok(SmallMount { dir })
    }
}

impl Drop for SmallMount {
    fn drop(&mut self) {
        if let Err(error) = nix::mount::umount(self.dir.path()) {
            eprintln!("cannot unmount {}: {error}", self.dir.path().display());
        }
    }
}

#[test]
fn a_full_file_system_of_the_operating_system() {
    let mount = match SmallMount::new("4m") {
        Ok(mount) => mount,
        Err(error) => return eprintln!("skipped: mounting a tmpfs needs root ({error})"),
    };
    let path = mount.dir.path();
    let ballast = path.join("ballast");
    std::fs::write(&ballast, vec![0; 3800 << 10]).unwrap();
    let opened = open_on(Arc::new(disk::Directory::open(path).unwrap()), small_files()).unwrap();
    let (taken, error) = fill(&opened);
    assert!(error.is_full(), "{error}");
    assert!(matches!(opened.notable(), LogEvent::Full(_)));
    std::fs::remove_file(&ballast).unwrap();
    assert!(matches!(opened.notable(), LogEvent::Room));
    opened.settle();
    opened.log.shutdown();
    let again = open_on(Arc::new(disk::Directory::open(path).unwrap()), small_files()).unwrap();
    assert_eq!((again.tail, again.found.len()), (Tail::Clean, taken.len()));
}
