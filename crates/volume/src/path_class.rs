//! What a path means to the engine: the closed list of an engine's adapter.
//!
//! The list says which files are keyed as relations, which are written in 8 KiB pages (and so reassembled when the
//! kernel splits a write), and which are local to the mount. What it does not name is an ordinary shipped file.

use zorya_types::{FileKey, Fork};

/// Blocks of 8 KiB in one segment file of a relation (PostgreSQL's `RELSEG_SIZE`: 1 GiB).
pub const SEGMENT_BLOCKS: u64 = 131_072;
/// The directory at the root of the volume that may hold PostgreSQL's data directory.
const DATA_DIRECTORY: &[u8] = b"pgdata";
const DEFAULT_TABLESPACE: u32 = 1663;
const GLOBAL_TABLESPACE: u32 = 1664;

/// Which engine's list applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineClass {
    /// No engine: every file is an ordinary shipped file.
    None,
    /// PostgreSQL, with its data directory at the root of the volume or in `pgdata`.
    Postgres,
    /// MariaDB, with its data directory in `mysqldata` and temporary files in `tmp`.
    Mariadb,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathClass {
    /// A segment of a relation fork: keyed by what it is, written in pages.
    Relation {
        /// The fork.
        file: FileKey,
        /// Which segment file of it, `0..`.
        segment: u64,
    },
    /// Written in whole pages: SLRU segments and `pg_control`.
    Paged,
    /// Content and name stay on this host and are gone with the mount.
    Local,
    /// Anything else.
    Plain,
}

impl EngineClass {
    /// Classifies a path below the root of the volume.
    #[must_use]
    pub fn classify(self, path: &[&[u8]]) -> PathClass {
        match self {
            EngineClass::None => PathClass::Plain,
            EngineClass::Postgres => postgres(data_directory_path(path)),
            EngineClass::Mariadb => mariadb(path),
        }
    }

    /// Whether a symbolic link at this path decides where the engine puts data, so that it may not leave the volume.
    #[must_use]
    pub fn is_data_link(self, path: &[&[u8]]) -> bool {
        match self {
            EngineClass::None => false,
            EngineClass::Postgres => {
                matches!(data_directory_path(path), [b"pg_tblspc", _] | [b"pg_wal" | b"base" | b"global"])
            }
            EngineClass::Mariadb => matches!(path, [b"mysqldata", ..]),
        }
    }

    /// Why such a link is refused, and what to do instead.
    #[must_use]
    pub fn link_remedy(self) -> &'static str {
        match self {
            EngineClass::None => "",
            EngineClass::Postgres => {
                "tablespaces and WAL live in the volume; create the tablespace with LOCATION '' and \
                 allow_in_place_tablespaces = on"
            }
            EngineClass::Mariadb => {
                "tables and logs live in the volume; leave DATA DIRECTORY and directories out"
            }
        }
    }
}

fn data_directory_path<'p, 'n>(path: &'p [&'n [u8]]) -> &'p [&'n [u8]] {
    match path {
        [first, rest @ ..] if *first == DATA_DIRECTORY => rest,
        _ => path,
    }
}

/// What MariaDB makes anew at every start. `#sql-alter…`, `#sql-backup…` and `#sql-ib…` are steps of statements that
/// recovery goes on with: they are shipped like any table.
fn mariadb(path: &[&[u8]]) -> PathClass {
    match path {
        [b"tmp", _, ..] | [b"mysqldata", b"ibtmp1"] => PathClass::Local,
        _ => PathClass::Plain,
    }
}

fn postgres(path: &[&[u8]]) -> PathClass {
    match path {
        [b"postmaster.pid" | b"postmaster.opts"] => PathClass::Local,
        [b"pg_stat_tmp", _, ..] | [b"base", b"pgsql_tmp", _, ..] => PathClass::Local,
        [b"pg_tblspc", _, _, b"pgsql_tmp", _, ..] => PathClass::Local,
        [b"global", b"pg_control"] => PathClass::Paged,
        [b"pg_xact" | b"pg_subtrans" | b"pg_commit_ts" | b"pg_serial" | b"pg_notify", _] => PathClass::Paged,
        [b"pg_multixact", b"members" | b"offsets", _] => PathClass::Paged,
        [b"global", name] => relation(GLOBAL_TABLESPACE, 0, name),
        [b"base", database, name] => in_database(DEFAULT_TABLESPACE, database, name),
        [b"pg_tblspc", space, version, database, name] if version.starts_with(b"PG_") => {
            match number(space) {
                Some(space) => in_database(space, database, name),
                None => PathClass::Plain,
            }
        }
        _ => PathClass::Plain,
    }
}

fn in_database(tablespace: u32, database: &[u8], name: &[u8]) -> PathClass {
    match number(database) {
        Some(database) => relation(tablespace, database, name),
        None => PathClass::Plain,
    }
}

/// `<relation>[_fsm|_vm|_init][.<segment>]`, or `t<backend>_<relation>…` for a temporary relation.
fn relation(tablespace: u32, database: u32, name: &[u8]) -> PathClass {
    let (name, temporary) = match temporary_relation(name) {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let Some((stem, segment)) = split_segment(name) else { return PathClass::Plain };
    let (digits, fork) = match stem.iter().position(|&byte| byte == b'_') {
        None => (stem, Fork::Main),
        Some(at) => match &stem[at..] {
            b"_fsm" => (&stem[..at], Fork::FreeSpaceMap),
            b"_vm" => (&stem[..at], Fork::VisibilityMap),
            b"_init" => (&stem[..at], Fork::Init),
            _ => return PathClass::Plain,
        },
    };
    match number(digits) {
        Some(_) if temporary => PathClass::Local,
        Some(relation) => {
            PathClass::Relation { file: FileKey::relation(tablespace, database, relation, fork), segment }
        }
        None => PathClass::Plain,
    }
}

fn temporary_relation(name: &[u8]) -> Option<&[u8]> {
    let rest = name.strip_prefix(b"t")?;
    let underscore = rest.iter().position(|&byte| byte == b'_')?;
    number(&rest[..underscore])?;
    Some(&rest[underscore + 1..])
}

fn split_segment(name: &[u8]) -> Option<(&[u8], u64)> {
    match name.iter().position(|&byte| byte == b'.') {
        None => Some((name, 0)),
        Some(at) => Some((&name[..at], u64::from(number(&name[at + 1..])?))),
    }
}

/// A decimal number as the engine writes it: no sign, no leading zero.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 10 || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    digits.iter().try_fold(0u32, |value, &digit| {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
        value.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(path: &str) -> PathClass {
        let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        EngineClass::Postgres.classify(&parts)
    }

    fn fork(tablespace: u32, database: u32, relation: u32, fork: Fork, segment: u64) -> PathClass {
        PathClass::Relation { file: FileKey::relation(tablespace, database, relation, fork), segment }
    }

    #[test]
    fn relations_are_keyed_by_what_they_are() {
        for (path, expected) in [
            ("base/5/16384", fork(1663, 5, 16384, Fork::Main, 0)),
            ("pgdata/base/5/16384.12", fork(1663, 5, 16384, Fork::Main, 12)),
            ("base/5/16384_fsm", fork(1663, 5, 16384, Fork::FreeSpaceMap, 0)),
            ("base/5/16384_vm.1", fork(1663, 5, 16384, Fork::VisibilityMap, 1)),
            ("base/5/16384_init", fork(1663, 5, 16384, Fork::Init, 0)),
            ("global/1260", fork(1664, 0, 1260, Fork::Main, 0)),
            ("pg_tblspc/16400/PG_15_202209061/5/16401", fork(16400, 5, 16401, Fork::Main, 0)),
        ] {
            assert_eq!(class(path), expected, "{path}");
        }
    }

    #[test]
    fn the_closed_list_of_local_names() {
        for path in [
            "postmaster.pid",
            "pgdata/postmaster.opts",
            "pg_stat_tmp/global.stat",
            "base/pgsql_tmp/pgsql_tmp77.0",
            "base/pgsql_tmp/pgsql_tmp77.0.sharedfileset/0.0",
            "base/5/t3_16400",
            "base/5/t3_16400_fsm",
            "base/5/t3_16400.1",
            "pg_tblspc/16400/PG_15_202209061/pgsql_tmp/pgsql_tmp9.0",
        ] {
            assert_eq!(class(path), PathClass::Local, "{path}");
        }
    }

    #[test]
    fn everything_else_is_shipped() {
        for path in [
            "base",
            "base/5",
            "base/pgsql_tmp",
            "pg_stat_tmp",
            "base/5/pg_filenode.map",
            "base/5/PG_VERSION",
            "base/5/016384",
            "base/5/16384_x",
            "base/5/16384.x",
            "base/5/4294967296",
            "global/pg_internal.init",
            "pg_wal/000000010000000000000001",
            "pg_stat/pgstat.stat",
            "postgresql.conf",
            "base/5/t3x_1",
            "other/base/5/16384",
        ] {
            assert_eq!(class(path), PathClass::Plain, "{path}");
        }
        assert_eq!(EngineClass::None.classify(&[b"postmaster.pid"]), PathClass::Plain);
    }

    #[test]
    fn mariadbs_temporary_files_are_local_and_steps_of_its_statements_are_not() {
        let class = |path: &str| {
            let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
            EngineClass::Mariadb.classify(&parts)
        };
        for path in ["tmp/#sql_1a2_0.MAI", "tmp/ibXYZ", "mysqldata/ibtmp1"] {
            assert_eq!(class(path), PathClass::Local, "{path}");
        }
        for path in [
            "tmp",
            "mysqldata/ibdata1",
            "mysqldata/db/#sql-alter-1f-4.ibd",
            "mysqldata/db/#sql-backup-1f-4.frm",
            "mysqldata/db/#sql-ib21.ibd",
            "mysqldata/db/tmp",
            "mysqldata/aria_log_control",
            "ibtmp1",
        ] {
            assert_eq!(class(path), PathClass::Plain, "{path}");
        }
    }

    #[test]
    fn pages_outside_relations() {
        for path in ["global/pg_control", "pg_xact/0000", "pg_multixact/members/0001", "pg_subtrans/000A"] {
            assert_eq!(class(path), PathClass::Paged, "{path}");
        }
    }

    #[test]
    fn links_that_move_data_are_known() {
        assert!(EngineClass::Postgres.is_data_link(&[b"pgdata", b"pg_tblspc", b"16400"]));
        assert!(EngineClass::Postgres.is_data_link(&[b"pg_wal"]));
        assert!(!EngineClass::Postgres.is_data_link(&[b"pg_tblspc", b"16400", b"x"]));
        assert!(!EngineClass::None.is_data_link(&[b"pg_tblspc", b"16400"]));
        assert!(EngineClass::Mariadb.is_data_link(&[b"mysqldata", b"d", b"t.ibd"]));
        assert!(!EngineClass::Mariadb.is_data_link(&[b"tmp", b"x"]));
    }
}
