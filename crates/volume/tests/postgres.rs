//! PostgreSQL on a mounted volume, the stock engine with the settings that the design relies on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use support::harness::{TestMount, can_mount, eventually, own_namespace, run};
use support::memory_store::MemoryStore;
use zorya_volume::EngineClass;

const BINARIES: &str = "/usr/lib/postgresql/15/bin";

fn can_run_postgres() -> bool {
    let there = Path::new(BINARIES).join("postgres").exists();
    if !there {
        eprintln!("SKIPPED: PostgreSQL 15 is not in {BINARIES}");
    }
    there && can_mount()
}

/// A command of PostgreSQL as the user postgres.
fn pg(program: &str) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--", &format!("{BINARIES}/{program}")]).current_dir("/");
    command
}

struct Server {
    child: Child,
    sockets: PathBuf,
}

impl Server {
    fn start(mount: &TestMount) -> Server {
        let sockets = mount.dir.path().to_owned();
        chown(&sockets, Some(postgres_uid()), None).unwrap();
        let log = fs::File::create(sockets.join("postgres.log")).unwrap();
        let child = pg("postgres")
            .arg("-D")
            .arg(mount.path("pgdata"))
            .args(["-c", "listen_addresses=", "-c", "full_page_writes=off", "-c", "wal_init_zero=off"])
            .args([
                "-c",
                "wal_recycle=off",
                "-c",
                "shared_buffers=16MB",
                "-c",
                "recovery_init_sync_method=syncfs",
            ])
            .args(["-c", "allow_in_place_tablespaces=on", "-c", "max_wal_size=64MB"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", sockets.display()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Server { child, sockets };
        let log = server.sockets.join("postgres.log");
        eventually("the engine accepts connections", || {
            fs::read_to_string(&log).unwrap().contains("ready to accept connections")
        });
        server
    }

    fn client(&self, program: &str) -> Command {
        let mut command = pg(program);
        command.arg("-h").arg(&self.sockets);
        command
    }

    fn sql(&self, statement: &str) -> String {
        run(self.client("psql").args(["-qAtX", "-d", "postgres", "-c", statement])).trim().to_owned()
    }

    fn postmaster(&self, mount: &TestMount) -> nix::unistd::Pid {
        let text = fs::read_to_string(mount.path("pgdata/postmaster.pid")).unwrap();
        nix::unistd::Pid::from_raw(text.lines().next().unwrap().parse().unwrap())
    }

    fn signal(mut self, mount: &TestMount, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(self.postmaster(mount), signal).unwrap();
        self.child.wait().unwrap();
    }
}

fn postgres_uid() -> u32 {
    nix::unistd::User::from_name("postgres").unwrap().unwrap().uid.as_raw()
}

fn initdb(mount: &TestMount) {
    fs::create_dir(mount.path("pgdata")).unwrap();
    chown(mount.path("pgdata"), Some(postgres_uid()), None).unwrap();
    let mut command = pg("initdb");
    command.arg("-D").arg(mount.path("pgdata"));
    run(command.args([
        "--data-checksums",
        "--no-sync",
        "-A",
        "trust",
        "--locale=C.UTF-8",
        "--encoding=UTF8",
    ]));
}

fn check(server: &Server) {
    run(server.client("psql").args([
        "-qX",
        "-d",
        "postgres",
        "-c",
        "create extension if not exists amcheck",
    ]));
    run(server.client("pg_amcheck").args(["--heapallindexed", "-d", "postgres"]));
}

#[test]
fn pgbench_runs_and_survives_stops_kills_and_remounts() {
    if !can_run_postgres() {
        return;
    }
    own_namespace();
    let store = MemoryStore::delayed(Duration::from_micros(200));
    let mount = TestMount::new(Arc::new(store.clone()), EngineClass::Postgres);
    initdb(&mount);
    let server = Server::start(&mount);
    run(server.client("pgbench").args(["-i", "-q", "-s", "2", "postgres"]));
    let report = run(server.client("pgbench").args(["-T", "5", "-c", "8", "-j", "2", "postgres"]));
    eprintln!("{report}");
    assert!(!report.contains("aborted"));
    let history = server.sql("select count(*) from pgbench_history");
    server.signal(&mount, nix::sys::signal::SIGINT);
    mount.stop().unwrap();

    let mount = TestMount::new(Arc::new(store.clone()), EngineClass::Postgres);
    let server = Server::start(&mount);
    assert_eq!(server.sql("select count(*) from pgbench_history"), history);
    check(&server);
    run(server.client("pgbench").args(["-T", "2", "-c", "4", "postgres"]));
    let history = server.sql("select count(*) from pgbench_history");
    server.signal(&mount, nix::sys::signal::SIGQUIT);
    let server = Server::start(&mount);
    assert_eq!(server.sql("select count(*) from pgbench_history"), history);
    check(&server);
    server.signal(&mount, nix::sys::signal::SIGINT);
}
