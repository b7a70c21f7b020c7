//! A writer of the real engine is killed between the two parts of one page write, and the engine recovers in place, over
//! the kernel's cache of the same mount. With `full_page_writes` off nothing but the mount's reassembly stands between
//! that and a torn page; with that reassembly broken on purpose, the engine's checksums must find it.
//!
//! Needs root, /dev/fuse and PostgreSQL 15; the planted bug needs `ZORYA_PLANTED_BIN` (a build with the feature
//! `planted-bugs`). Without them a test says so and passes.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{POSTGRES, Region, eventually, run};

/// What the engine says of a page whose checksum is wrong.
const TORN: &str = "page verification failed";

/// A PostgreSQL whose page writes can be cut short.
struct CutShort {
    directory: tempfile::TempDir,
}

impl CutShort {
    fn build() -> CutShort {
        let directory = tempfile::tempdir().unwrap();
        // The engine's user removes the file that says which page.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let library = directory.path().join("half_page.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/half_page.c");
        run(Command::new("gcc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl"));
        let cut = CutShort { directory };
        fs::create_dir(cut.bin_dir()).unwrap();
        symlink(Path::new(POSTGRES).join("initdb"), cut.bin_dir().join("initdb")).unwrap();
        let script = format!(
            "#!/bin/sh\nexport LD_PRELOAD={} ZORYA_HALF_PAGE={}\nexec {POSTGRES}/postgres \"$@\"\n",
            library.display(),
            cut.choice().display(),
        );
        let program = cut.bin_dir().join("postgres");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        cut
    }

    fn bin_dir(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    fn choice(&self) -> PathBuf {
        self.directory.path().join("choice")
    }

    /// The next page written to the file at `path` below the data directory is cut short.
    fn choose(&self, path: &str) {
        let prepared = self.directory.path().join("prepared");
        fs::write(&prepared, format!("/{path}\n")).unwrap();
        fs::rename(prepared, self.choice()).unwrap();
    }

    fn is_done(&self) -> bool {
        !self.choice().exists()
    }
}

/// Brings a region up on an engine that can be cut short, and kills its checkpointer between the parts of the only page
/// of the table `t`, whose newest content only WAL has. Returns the engine's programs, to be kept.
fn kill_between_fragments(region: &Region) -> CutShort {
    let cut = CutShort::build();
    let bin_dir = cut.bin_dir();
    region.run(&["up", "--detach", "--no-cluster"]);
    region.run(&["cluster", "create", "main", "--bin-dir", bin_dir.to_str().unwrap()]);
    region.sql("CREATE TABLE t (id int, version int, filler text)");
    region.sql("INSERT INTO t SELECT n, 1, repeat('x', 60) FROM generate_series(1, 40) n");
    // Hint bits now, so that none is set later: logging them would log the whole page and heal it.
    region.sql("VACUUM t");
    region.sql("CHECKPOINT");
    region.sql("UPDATE t SET version = 2");
    cut.choose(&region.sql("SELECT pg_relation_filepath('t')"));
    assert_eq!(region.try_sql("CHECKPOINT"), None, "the checkpointer is killed, and every session with it");
    assert!(cut.is_done(), "no page was cut short");
    cut
}

#[test]
fn a_writer_killed_between_the_fragments_of_a_page_leaves_no_torn_page() {
    let Some(region) = Region::new() else { return };
    let _engine = kill_between_fragments(&region);
    let before = region.pids();
    assert_eq!(region.sql("SELECT count(*), min(version), max(version) FROM t"), "40|2|2");
    let now = region.pids();
    assert_eq!((now.engine, now.mount), (before.engine, before.mount), "it recovered in place");
    let engine_log = region.log(false);
    assert!(engine_log.contains("was terminated by signal 9") && engine_log.contains("redo starts at"));
    assert!(!engine_log.contains(TORN), "{engine_log}");
    let mount_log = region.log(true);
    assert!(mount_log.contains("an unfinished page write is dropped"), "no head was held: {mount_log}");

    // Cold: a new mount, so that every page comes from storage. pg_checksums wants an engine that was shut down.
    region.run(&["cluster", "stop", "main"]);
    assert_eq!(checksums(&region), "0");
    region.run(&["cluster", "start", "main"]);
    assert_eq!(region.sql("SELECT count(*), min(version), max(version) FROM t"), "40|2|2");
}

#[test]
fn a_head_that_is_not_dropped_is_caught_by_the_engines_checksums() {
    let Some(planted) = std::env::var_os("ZORYA_PLANTED_BIN") else {
        return println!("skipped: needs ZORYA_PLANTED_BIN");
    };
    let Some(region) = Region::new() else { return };
    let region = region.with_bug(PathBuf::from(planted), "head-not-dropped");
    let _engine = kill_between_fragments(&region);
    eventually("the engine to find the torn page", || region.log(false).contains(TORN).then_some(()));
    assert_eq!(region.try_sql("SELECT count(*) FROM t"), None);
}

/// How many pages of a stopped cluster's volume have a wrong checksum, as `pg_checksums` counts them on a mount of its
/// own.
fn checksums(region: &Region) -> String {
    let mount = support::PlainMount::of(region);
    let mut check = mount.inside("runuser");
    check.args(["-u", "postgres", "--", &format!("{POSTGRES}/pg_checksums"), "--check", "-D"]);
    let said = run(check.arg(mount.path("pgdata")));
    let bad = said.lines().find_map(|line| line.strip_prefix("Bad checksums:"));
    bad.unwrap_or_else(|| panic!("{said}")).trim().to_owned()
}
