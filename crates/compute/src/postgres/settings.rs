//! The parameters that Zorya runs PostgreSQL with.
//!
//! Three kinds. *Pinned* ones hold the promise that what was acknowledged is durable, or belong to the supervisor; they go
//! on the command line, where neither a file nor `ALTER SYSTEM` reaches them, and an operator who sets one is refused
//! with the reason. *Chosen* ones make PostgreSQL fit the volume; an operator may override them when a cluster is created.
//! *Defaults* are written into `postgresql.conf` when the database is made, and may be changed there like any other.

use std::collections::BTreeMap;

use crate::engine::Placement;
use crate::engine::parameters::{self, ParameterError, Pinned, pinned};

const PINNED: &[Pinned] = &[
    pinned(
        "fsync",
        Some("on"),
        "a commit waits for four of six copies through it; for less waiting set synchronous_commit",
    ),
    pinned("wal_sync_method", Some("fdatasync"), "it is the call that the volume waits in; leave it out"),
    pinned(
        "data_sync_retry",
        Some("off"),
        "after a failed sync only crash recovery from the volume is safe; leave it out",
    ),
    pinned("logging_collector", Some("off"), "the agent keeps the log: read it with `zorya cluster logs`"),
    pinned("log_destination", Some("stderr"), "the agent keeps the log: read it with `zorya cluster logs`"),
    pinned("log_directory", None, "the log is kept outside the volume: read it with `zorya cluster logs`"),
    pinned(
        "data_directory",
        None,
        "the database is in the cluster's volume, and nowhere else would be replicated",
    ),
    pinned(
        "config_file",
        None,
        "the configuration is in the cluster's volume; give parameters with --parameter",
    ),
    pinned("hba_file", None, "it is in the cluster's volume; edit pg_hba.conf there"),
    pinned("ident_file", None, "it is in the cluster's volume; edit pg_ident.conf there"),
    pinned("external_pid_file", None, "the agent supervises the engine: see `zorya status`"),
    pinned(
        "listen_addresses",
        None,
        "the region's layout says where engines listen: [compute] listen in the --layout file",
    ),
    pinned("port", None, "the region picks it and keeps it: see `zorya status`, choose with --port"),
    pinned(
        "unix_socket_directories",
        None,
        "the agent probes the engine there: connect by TCP or `zorya sql`",
    ),
    pinned(
        "unix_socket_permissions",
        None,
        "the socket is in a directory of the engine's user: connect by TCP or `zorya sql`",
    ),
    pinned(
        "unix_socket_group",
        None,
        "the socket is in a directory of the engine's user: connect by TCP or `zorya sql`",
    ),
    pinned(
        "password_encryption",
        Some("scram-sha-256"),
        "clients authenticate with SCRAM only; leave it out",
    ),
    pinned(
        "restart_after_crash",
        Some("on"),
        "recovery in place is quicker than a restart by the agent; leave it out",
    ),
];

/// Chosen to fit the volume.
const CHOSEN: &[(&str, &str)] = &[
    // No page is ever torn on a volume, so images after a checkpoint would only be bytes to ship.
    ("full_page_writes", "off"),
    // A new segment would ship 16 MiB of zeroes; a renamed one would keep blocks that nobody reads.
    ("wal_init_zero", "off"),
    ("wal_recycle", "off"),
    // One request for the whole directory; the volume's total order makes the order of syncs irrelevant.
    ("recovery_init_sync_method", "syncfs"),
    ("wal_level", "replica"),
    // Recovery asks for this many blocks ahead; each one is a message to a storage node until it is cached.
    ("maintenance_io_concurrency", "256"),
    ("wal_decode_buffer_size", "4MB"),
    // Tablespaces have to lie inside the volume; this is how.
    ("allow_in_place_tablespaces", "on"),
];

/// The first major that has a chosen parameter, where not all do.
const SINCE: &[(&str, u32)] = &[("wal_decode_buffer_size", 15)];

/// Written into `postgresql.conf` when the database is made.
const DEFAULTS: &[(&str, &str, &str)] = &[
    (
        "checkpoint_timeout",
        "'30s'",
        "bounds crash recovery to seconds; without page images checkpoints are cheap",
    ),
    ("checkpoint_completion_target", "0.1", "keeps the start of recovery close behind"),
    ("max_wal_size", "'2GB'", "lets time, not size, pace the checkpoints"),
    ("log_line_prefix", "'%m [%p] %q%u@%d '", "tells who"),
];

/// Brings an operator's parameters into PostgreSQL's spelling and refuses the pinned ones.
pub fn check(given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ParameterError> {
    // PostgreSQL's names ignore case, so "FSYNC" is fsync.
    parameters::check(given, PINNED, str::to_ascii_lowercase)
}

/// Arguments by which the server judges a parameter and exits. It wants a directory and a configuration, if only an empty one.
#[must_use]
pub fn trial(name: &str, value: &str) -> Vec<String> {
    let given = format!("{name}={value}");
    ["-C", name, "-c", &given, "-c", "config_file=/dev/null", "-D", "/"].map(str::to_owned).into()
}

/// The arguments of a server of this major: `-D DIR -c name=value …`. The pinned ones come last, since the last one counts.
#[must_use]
pub fn arguments(place: &Placement<'_>, parameters: &BTreeMap<String, String>, major: u32) -> Vec<String> {
    let mut arguments = vec!["-D".to_owned(), place.data_directory.display().to_string()];
    let mut set = |name: &str, value: &str| arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
    let chosen = CHOSEN
        .iter()
        .copied()
        .filter(|(name, _)| SINCE.iter().all(|(later, first)| later != name || major >= *first));
    for (name, value) in parameters::in_order(chosen, parameters, PINNED) {
        set(name, value);
    }
    set("listen_addresses", place.host);
    set("port", &place.port.to_string());
    set("unix_socket_directories", &place.socket_directory.display().to_string());
    set("cluster_name", "");
    arguments
}

/// What is appended to `postgresql.conf` when the database is made.
#[must_use]
pub fn defaults_file() -> String {
    let mut text = "\n# Zorya's defaults. Change them here or with ALTER SYSTEM.\n".to_owned();
    for (name, value, reason) in DEFAULTS {
        text.push_str(&format!("{name} = {value}\t# {reason}\n"));
    }
    text
}

/// `pg_hba.conf`: SCRAM for everybody, from wherever `listen_addresses` lets them in.
#[must_use]
pub fn hba_file() -> &'static str {
    "# TYPE  DATABASE     USER  ADDRESS  METHOD\n\
     local   all          all            scram-sha-256\n\
     local   replication  all            scram-sha-256\n\
     host    all          all   all      scram-sha-256\n\
     host    replication  all   all      scram-sha-256\n"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn one(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    fn run_with(parameters: &BTreeMap<String, String>, major: u32) -> Vec<String> {
        let place = Placement {
            mountpoint: Path::new("/m"),
            data_directory: Path::new("/m/pgdata"),
            socket_directory: Path::new("/r"),
            host: "127.0.0.1",
            port: 5432,
        };
        arguments(&place, parameters, major)
    }

    #[test]
    fn every_pinned_parameter_is_refused_with_a_reason_in_any_case() {
        for pinned in PINNED {
            for name in [pinned.name.to_owned(), pinned.name.to_ascii_uppercase()] {
                let message = check(&one(&name, "off")).unwrap_err().to_string();
                assert!(message.contains(pinned.name) && message.contains(pinned.reason), "{message}");
            }
        }
    }

    #[test]
    fn what_would_escape_the_command_line_is_refused() {
        for name in ["", "a b", "full-page-writes", "x=y", "1a", "-D"] {
            assert!(matches!(check(&one(name, "1")), Err(ParameterError::BadName(_))), "{name:?}");
        }
        assert!(check(&one("my_extension.level", "x y=z")).is_ok());
    }

    #[test]
    fn pinned_parameters_come_after_the_operators() {
        let arguments = run_with(&one("work_mem", "8MB"), 15);
        let place = |text: &str| {
            arguments.iter().position(|a| a == text).unwrap_or_else(|| panic!("{text} is missing"))
        };
        assert!(place("work_mem=8MB") < place("fsync=on"));
        assert!(place("port=5432") > 0 && place("listen_addresses=127.0.0.1") > 0);
        assert_eq!(&arguments[..2], ["-D", "/m/pgdata"]);
    }

    #[test]
    fn an_older_major_is_not_given_what_it_lacks() {
        let has = |major, name: &str| {
            run_with(&BTreeMap::new(), major).iter().any(|argument| argument.starts_with(name))
        };
        assert!(has(15, "wal_decode_buffer_size") && !has(14, "wal_decode_buffer_size"));
        assert!(has(14, "full_page_writes=off") && has(14, "fsync=on"));
    }

    #[test]
    fn a_chosen_parameter_gives_way_to_the_operators() {
        let arguments = run_with(&one("full_page_writes", "on"), 15);
        assert!(arguments.contains(&"full_page_writes=on".to_owned()));
        assert!(!arguments.contains(&"full_page_writes=off".to_owned()));
    }
}
