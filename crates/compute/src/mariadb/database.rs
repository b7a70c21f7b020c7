//! The data directory in a volume.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use super::settings::{TEMPORARY, basedir, datadir};
use super::{PRODUCT, SUPERUSER};
use crate::engine::Placement;
use crate::engine::database::{DatabaseError, failed, is_marked, mark, other_version};

/// The data directory's name within the volume.
pub const DATA: &str = "mysqldata";
/// The files in which a server's version is kept, since 11 and before.
const VERSION_FILES: [&str; 2] = ["mariadb_upgrade_info", "mysql_upgrade_info"];

/// Whether the volume whose root is at `root` holds a database of `engine`, as in `mariadb 10.11`. Blocks on the volume.
pub fn exists(root: &Path, engine: &str) -> Result<bool, DatabaseError> {
    if !is_marked(root, engine)? {
        return Ok(false);
    }
    for name in VERSION_FILES {
        let path = root.join(DATA).join(name);
        let found = match fs::read_to_string(&path) {
            Ok(found) => format!("{} {}", PRODUCT.mark, found.trim()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("read", &path)(error)),
        };
        if !found.strip_prefix(engine).is_some_and(|rest| rest.starts_with('.')) {
            return Err(other_version(&found, engine));
        }
    }
    Ok(true)
}

/// Finishes what the installation made: the directory for temporary files, the marker, everything durable. Blocks on
/// the volume.
pub fn finish(root: &Path, engine: &str) -> Result<(), DatabaseError> {
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
    mark(root, engine)
}

/// The installation's arguments. `statements` is a file with [`first_statements`], as the engine's user sees it.
#[must_use]
pub fn install_arguments(place: &Placement<'_>, statements: &Path, prefix: Option<&Path>) -> Vec<String> {
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
    arguments.extend(prefix.map(basedir));
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

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: &str = "mariadb 10.11";

    #[test]
    fn another_servers_data_directory_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(DATA)).unwrap();
        finish(root.path(), ENGINE).unwrap();
        assert!(exists(root.path(), ENGINE).unwrap());
        for (file, version, good) in [
            ("mysql_upgrade_info", "10.11.14-MariaDB", true),
            ("mysql_upgrade_info", "10.1.48-MariaDB", false),
            ("mysql_upgrade_info", "8.0.36", false),
            ("mariadb_upgrade_info", "11.8.2-MariaDB", false),
        ] {
            fs::write(root.path().join(DATA).join(file), version).unwrap();
            let said = exists(root.path(), ENGINE).map_err(|error| error.to_string());
            match said {
                Ok(_) => assert!(good, "{version}"),
                Err(said) => assert!(!good && said.contains(version) && said.contains(ENGINE), "{said}"),
            }
        }
    }
}
