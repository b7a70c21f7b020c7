//! The parameters that Zorya runs MariaDB with.
//!
//! *Pinned* ones hold the promise that what was acknowledged is durable, or belong to the supervisor; an operator who sets
//! one is refused with the reason. *Chosen* ones make MariaDB fit the volume; an operator may override them when a
//! cluster is created. All go on the command line and no option file is read, so that nothing of the host changes them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::engine::Placement;
use crate::engine::parameters::{self, ParameterError, Pinned, pinned};

/// The socket's name in the runtime directory.
pub const SOCKET: &str = "mysqld.sock";
/// The pid file's name in the runtime directory.
pub const PID_FILE: &str = "mysqld.pid";
/// The directory for temporary files, at the root of the volume; what is in it stays on the host.
pub const TEMPORARY: &str = "tmp";

const IN_VOLUME: &str = "the database is in the cluster's volume, and nowhere else would be replicated";
const NO_FILE: &str = "no option file is read; give parameters with --parameter";

const PINNED: &[Pinned] = &[
    pinned(
        "innodb_flush_log_at_trx_commit",
        Some("1"),
        "a commit waits for four of six copies through it; leave it out",
    ),
    pinned(
        "innodb_flush_method",
        Some("O_DIRECT"),
        "pages reach the volume past the kernel's cache; leave it out",
    ),
    pinned("innodb_encrypt_log", Some("OFF"), "storage reads the redo log; leave it out"),
    pinned("sync_binlog", Some("1"), "the binary log must not fall behind InnoDB; leave it out"),
    pinned("datadir", None, IN_VOLUME),
    pinned("innodb_data_home_dir", None, IN_VOLUME),
    pinned("innodb_log_group_home_dir", None, IN_VOLUME),
    pinned("innodb_undo_directory", None, IN_VOLUME),
    pinned("aria_log_dir_path", None, IN_VOLUME),
    pinned(
        "tmpdir",
        None,
        "temporary files stay on the host, in a directory that goes with the mount; leave it out",
    ),
    pinned("slave_load_tmpdir", None, "it is where other temporary files are; leave it out"),
    pinned("innodb_tmpdir", None, "it is where other temporary files are; leave it out"),
    pinned("socket", None, "the agent probes the engine there: connect by TCP or `zorya sql`"),
    pinned("pid_file", None, "the agent supervises the engine: see `zorya status`"),
    pinned("port", None, "the region picks it and keeps it: see `zorya status`, choose with --port"),
    pinned(
        "bind_address",
        None,
        "the region's layout says where engines listen: [compute] listen in the --layout file",
    ),
    pinned("skip_networking", None, "clients connect by TCP; leave it out"),
    pinned("log_error", None, "the agent keeps the log: read it with `zorya cluster logs`"),
    pinned("user", None, "the agent starts the engine as its own user; leave it out"),
    pinned("basedir", None, "the engine's programs are chosen with --bin-dir"),
    pinned("defaults_file", None, NO_FILE),
    pinned("defaults_extra_file", None, NO_FILE),
    pinned("skip_grant_tables", None, "everybody could do everything; leave it out"),
    pinned("init_file", None, "it would have to lie on the host; run the statements with `zorya sql`"),
    pinned("symbolic_links", Some("OFF"), "tables outside the volume would not be replicated; leave it out"),
];

/// Parameters that name files, which must lie in the data directory.
const FILES: &[&str] = &[
    "log_bin",
    "log_bin_index",
    "relay_log",
    "relay_log_index",
    "relay_log_info_file",
    "master_info_file",
    "innodb_data_file_path",
    "innodb_temp_data_file_path",
    "innodb_buffer_pool_filename",
];

/// Chosen to fit the volume.
const CHOSEN: &[(&str, &str)] = &[
    // No page is ever torn on a volume: the doublewrite buffer would only be bytes to ship.
    ("innodb_doublewrite", "OFF"),
    ("innodb_use_native_aio", "ON"),
    // A tablespace's purpose on a disk, blocks side by side, means nothing on a volume.
    ("innodb_flush_neighbors", "0"),
    // Recovery reads every page that the log has touched; this bounds it to seconds.
    ("innodb_log_file_size", "64M"),
    ("character_set_server", "utf8mb4"),
    // Names are not looked up, so that no name server can keep clients out.
    ("skip_name_resolve", "ON"),
];

/// The argument that names the data directory.
#[must_use]
pub fn datadir(data_directory: &Path) -> String {
    format!("--datadir={}", data_directory.display())
}

/// Brings an operator's parameters into MariaDB's spelling and refuses the pinned ones, and files outside the volume.
pub fn check(given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ParameterError> {
    // MariaDB takes dashes for underscores, and `loose_`, `skip_` and so on before a name.
    let spelling = |name: &str| {
        let name = name.to_ascii_lowercase().replace('-', "_");
        name.strip_prefix("loose_").unwrap_or(&name).to_owned()
    };
    let checked = parameters::check(given, PINNED, spelling)?;
    for (name, value) in &checked {
        if FILES.contains(&name.as_str()) && value.contains('/') {
            return Err(ParameterError::Pinned {
                name: format!("{name}={value}"),
                reason: "it must lie in the data directory, which is replicated: give a name without a directory",
            });
        }
    }
    Ok(checked)
}

/// The argument by which a server finds its messages and plugins below a directory.
#[must_use]
pub fn basedir(prefix: &Path) -> String {
    format!("--basedir={}", prefix.display())
}

/// The engine's arguments. The pinned ones come last, since the last one counts.
#[must_use]
pub fn arguments(
    place: &Placement<'_>,
    parameters: &BTreeMap<String, String>,
    prefix: Option<&Path>,
) -> Vec<String> {
    let mut arguments = vec!["--no-defaults".to_owned(), datadir(place.data_directory)];
    arguments.extend(prefix.map(basedir));
    let mut set = |name: &str, value: &str| arguments.push(format!("--{}={value}", name.replace('_', "-")));
    for (name, value) in parameters::in_order(CHOSEN.iter().copied(), parameters, PINNED) {
        set(name, value);
    }
    set("tmpdir", &place.mountpoint.join(TEMPORARY).display().to_string());
    set("socket", &place.socket_directory.join(SOCKET).display().to_string());
    set("pid_file", &place.socket_directory.join(PID_FILE).display().to_string());
    set("bind_address", place.host);
    set("port", &place.port.to_string());
    arguments
}

/// Arguments by which the server judges a parameter and exits. What a plugin such as InnoDB refuses it only says.
#[must_use]
pub fn trial(name: &str, value: &str, prefix: Option<&Path>) -> Vec<String> {
    let mut arguments = vec!["--no-defaults".to_owned()];
    arguments.extend(prefix.map(basedir));
    arguments.extend(["--verbose".to_owned(), "--help".to_owned()]);
    arguments.push(format!("--{}={value}", name.replace('_', "-")));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn every_pinned_parameter_is_refused_with_a_reason_in_any_spelling() {
        for pinned in PINNED {
            let name = pinned.name;
            for name in
                [name.to_owned(), name.to_uppercase(), name.replace('_', "-"), format!("loose-{name}")]
            {
                let message = check(&one(&name, "0")).unwrap_err().to_string();
                assert!(message.contains(pinned.name) && message.contains(pinned.reason), "{message}");
            }
        }
    }

    #[test]
    fn logs_stay_in_the_volume() {
        let message = check(&one("log-bin", "/var/log/mysql/bin")).unwrap_err().to_string();
        assert!(
            message.contains("log_bin=/var/log/mysql/bin") && message.contains("replicated"),
            "{message}"
        );
        assert!(check(&one("log-bin", "bin")).is_ok());
    }

    #[test]
    fn pinned_parameters_come_after_the_operators_and_chosen_ones_give_way() {
        let place = Placement {
            mountpoint: Path::new("/m"),
            data_directory: Path::new("/m/mysql"),
            socket_directory: Path::new("/r"),
            host: "127.0.0.1",
            port: 3306,
        };
        let parameters = check(&one("innodb-doublewrite", "ON")).unwrap();
        let arguments = arguments(&place, &parameters, None);
        let at = |text: &str| arguments.iter().position(|argument| argument == text);
        assert!(at("--innodb-doublewrite=ON") < at("--innodb-flush-log-at-trx-commit=1"));
        assert_eq!(at("--innodb-doublewrite=OFF"), None);
        assert_eq!(&arguments[..2], ["--no-defaults", "--datadir=/m/mysql"]);
        for wanted in ["--socket=/r/mysqld.sock", "--tmpdir=/m/tmp", "--port=3306", "--sync-binlog=1"] {
            assert!(at(wanted).is_some(), "{wanted} is missing");
        }
    }
}
