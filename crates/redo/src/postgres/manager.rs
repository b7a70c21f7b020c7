//! The numbers of resource managers (`access/rmgrlist.h`), the same from PostgreSQL 14 to 18.

/// Checkpoints, page images and other records of the log itself.
pub const XLOG: u8 = 0;
/// Commit, abort, prepare.
pub const XACT: u8 = 1;
/// Creation and truncation of relation files.
pub const SMGR: u8 = 2;
/// Commit status.
pub const CLOG: u8 = 3;
/// Databases.
pub const DBASE: u8 = 4;
/// Tablespaces.
pub const TBLSPC: u8 = 5;
/// Sets of transactions that lock one tuple.
pub const MULTIXACT: u8 = 6;
/// Which files the mapped catalogs are.
pub const RELMAP: u8 = 7;
/// For hot standbys.
pub const STANDBY: u8 = 8;
/// Heaps, the second half.
pub const HEAP2: u8 = 9;
/// Heaps.
pub const HEAP: u8 = 10;
/// B-trees.
pub const BTREE: u8 = 11;
/// Hash indexes.
pub const HASH: u8 = 12;
/// Inverted indexes.
pub const GIN: u8 = 13;
/// Generalised search trees.
pub const GIST: u8 = 14;
/// Sequences.
pub const SEQ: u8 = 15;
/// Space-partitioned trees.
pub const SPGIST: u8 = 16;
/// Block range indexes.
pub const BRIN: u8 = 17;
/// Commit times.
pub const COMMIT_TS: u8 = 18;
/// Progress of logical replication.
pub const REPLORIGIN: u8 = 19;
/// Deltas of extensions' pages.
pub const GENERIC: u8 = 20;
/// Messages for logical decoding.
pub const LOGICALMSG: u8 = 21;

/// The managers' names, by number, as `pg_waldump` prints them.
const NAMES: [&str; 22] = [
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

/// The manager's name as `pg_waldump` prints it.
#[must_use]
pub fn name(manager: u8) -> &'static str {
    NAMES.get(usize::from(manager)).copied().unwrap_or("unknown")
}
