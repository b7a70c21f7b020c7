//! The data directory in a volume.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use super::SUPERUSER;
use super::settings::{TEMPORARY, datadir};
use crate::engine::Placement;
use crate::engine::database::{DatabaseError, failed, is_marked, mark};

/// The data directory's name within the volume.
pub const DATA: &str = "mysqldata";
/// What the marker says.
const ENGINE: &str = "mariadb 10.11";

/// Whether the volume whose root is at `root` holds a database of this version. Blocks on the volume.
pub fn exists(root: &Path) -> Result<bool, DatabaseError> {
    is_marked(root, ENGINE)
}

/// Finishes what the installation made: the directory for temporary files, the marker, everything durable. Blocks on
/// the volume.
pub fn finish(root: &Path) -> Result<(), DatabaseError> {
    let temporary = root.join(TEMPORARY);
    match fs::create_dir(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed("make", &temporary)(error));
        }
        _ => {}
    }
    let data = root.join(DATA);
    let owner = fs::metadata(&data).map_err(failed("read", &data))?;
    chown(&temporary, Some(owner.uid()), Some(owner.gid())).map_err(failed("give away", &temporary))?;
    mark(root, ENGINE)
}

/// The installation's arguments. `statements` is a file with [`first_statements`], as the engine's user sees it.
#[must_use]
pub fn install_arguments(place: &Placement<'_>, statements: &Path) -> Vec<String> {
    let fixed = [
        "--no-defaults",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--skip-name-resolve",
        "--innodb-doublewrite=OFF",
        "--innodb-flush-method=O_DIRECT",
        "--innodb-log-file-size=64M",
    ];
    let mut arguments: Vec<String> = fixed.map(str::to_owned).into();
    arguments.push(datadir(place.data_directory));
    arguments.push(format!("--extra-file={}", statements.display()));
    arguments
}

/// The first statements of a new database: the superuser may connect from anywhere, and only with the password. They run
/// without grant tables, which the first one loads.
#[must_use]
pub fn first_statements(password: &str) -> String {
    let user = |host: &str| format!("'{SUPERUSER}'@'{host}'");
    format!(
        "FLUSH PRIVILEGES;\n\
         ALTER USER {local} IDENTIFIED BY '{password}';\n\
         CREATE USER {anywhere} IDENTIFIED BY '{password}';\n\
         GRANT ALL PRIVILEGES ON *.* TO {anywhere} WITH GRANT OPTION;\n\
         DELETE FROM mysql.global_priv WHERE User = '' OR (User = '{SUPERUSER}' AND Host NOT IN ('localhost', '%'));\n\
         FLUSH PRIVILEGES;\n",
        local = user("localhost"),
        anywhere = user("%"),
    )
}
