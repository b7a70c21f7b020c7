//! What must be seen: every (resource manager, operation, block reference) of a version of PostgreSQL.

use std::fmt;

use zorya_redo::postgres::decode::record::Record;
use zorya_redo::postgres::major::Major;
use zorya_redo::postgres::manager;

/// One entry of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The version.
    pub major: Major,
    /// The resource manager's number.
    pub manager: u8,
    /// The operation's bits of the info byte.
    pub operation: u8,
    /// The reference's number; `None` for a record without any, or the record as such.
    pub reference: Option<u8>,
}

impl Entry {
    /// The entry of a record and one of its references.
    pub fn of(record: &Record<'_>, reference: Option<u8>) -> Self {
        // References of one kind that a record can have many of count as one.
        let reference = reference.map(|id| id.min(repeated_from(record.manager, record.operation())));
        Self {
            major: record.major,
            manager: record.manager,
            operation: operation_of(record.manager, record.info),
            reference,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", manager::name(self.manager), name(self.major, self.manager, self.operation))?;
        match self.reference {
            Some(id) => write!(f, " reference {id}"),
            None => Ok(()),
        }
    }
}

/// The operation in an info byte, without flags that are not part of it.
fn operation_of(manager: u8, info: u8) -> u8 {
    match manager {
        // The upper bit says that more data follows. For heaps and BRIN it says that the page is initialised, which is
        // an operation of its own in the list.
        manager::XACT => info & 0x70,
        _ => info & 0xf0,
    }
}

/// From this reference on, all are of one kind.
fn repeated_from(manager: u8, operation: u8) -> u8 {
    match (manager, operation) {
        (manager::XLOG, _) => 0,
        (manager::GIN, 0x80) => 1,
        (manager::GIST, 0x30) => 1,
        (manager::GENERIC, _) => 0,
        _ => u8::MAX,
    }
}

/// An operation: its info bits, its name as `pg_waldump` prints it, and the references that a record of it can have.
type Operation = (u8, &'static str, &'static [u8]);

const XLOG: &[Operation] = &[
    (0x00, "CHECKPOINT_SHUTDOWN", &[]),
    (0x10, "CHECKPOINT_ONLINE", &[]),
    (0x20, "NOOP", &[]),
    (0x30, "NEXTOID", &[]),
    (0x40, "SWITCH", &[]),
    (0x50, "BACKUP_END", &[]),
    (0x60, "PARAMETER_CHANGE", &[]),
    (0x70, "RESTORE_POINT", &[]),
    (0x80, "FPW_CHANGE", &[]),
    (0x90, "END_OF_RECOVERY", &[]),
    (0xa0, "FPI_FOR_HINT", &[0]),
    (0xb0, "FPI", &[0]),
    (0xd0, "OVERWRITE_CONTRECORD", &[]),
    (0xe0, "CHECKPOINT_REDO", &[]),
];
const XACT: &[Operation] = &[
    (0x00, "COMMIT", &[]),
    (0x10, "PREPARE", &[]),
    (0x20, "ABORT", &[]),
    (0x30, "COMMIT_PREPARED", &[]),
    (0x40, "ABORT_PREPARED", &[]),
    (0x50, "ASSIGNMENT", &[]),
    (0x60, "INVALIDATION", &[]),
];
const SMGR: &[Operation] = &[(0x10, "CREATE", &[]), (0x20, "TRUNCATE", &[])];
const CLOG: &[Operation] = &[(0x00, "ZEROPAGE", &[]), (0x10, "TRUNCATE", &[])];
const DBASE: &[Operation] =
    &[(0x00, "CREATE_FILE_COPY", &[]), (0x10, "CREATE_WAL_LOG", &[]), (0x20, "DROP", &[])];
const TBLSPC: &[Operation] = &[(0x00, "CREATE", &[]), (0x10, "DROP", &[])];
const MULTIXACT: &[Operation] = &[
    (0x00, "ZERO_OFF_PAGE", &[]),
    (0x10, "ZERO_MEM_PAGE", &[]),
    (0x20, "CREATE_ID", &[]),
    (0x30, "TRUNCATE_ID", &[]),
];
const RELMAP: &[Operation] = &[(0x00, "UPDATE", &[])];
const STANDBY: &[Operation] =
    &[(0x00, "LOCK", &[]), (0x10, "RUNNING_XACTS", &[]), (0x20, "INVALIDATIONS", &[])];
const HEAP2_15: &[Operation] = &[
    (0x00, "REWRITE", &[]),
    (0x10, "PRUNE", &[0]),
    (0x20, "VACUUM", &[0]),
    (0x30, "FREEZE_PAGE", &[0]),
    (0x40, "VISIBLE", &[0, 1]),
    (0x50, "MULTI_INSERT", &[0]),
    (0xd0, "MULTI_INSERT+INIT", &[0]),
    (0x60, "LOCK_UPDATED", &[0]),
    (0x70, "NEW_CID", &[]),
];
const HEAP_15: &[Operation] = &[
    (0x00, "INSERT", &[0]),
    (0x80, "INSERT+INIT", &[0]),
    (0x10, "DELETE", &[0]),
    (0x20, "UPDATE", &[0, 1]),
    (0xa0, "UPDATE+INIT", &[0, 1]),
    (0x30, "TRUNCATE", &[]),
    (0x40, "HOT_UPDATE", &[0]),
    (0x50, "HEAP_CONFIRM", &[0]),
    (0x60, "LOCK", &[0]),
    (0x70, "INPLACE", &[0]),
];
/// Since 17.11 records name the pages of the visibility map whose bits they clear.
const HEAP2_17: &[Operation] = &[
    (0x00, "REWRITE", &[]),
    (0x10, "PRUNE_ON_ACCESS", &[0]),
    (0x20, "PRUNE_VACUUM_SCAN", &[0]),
    (0x30, "PRUNE_VACUUM_CLEANUP", &[0]),
    (0x40, "VISIBLE", &[0, 1]),
    (0x50, "MULTI_INSERT", &[0, 1]),
    (0xd0, "MULTI_INSERT+INIT", &[0, 1]),
    (0x60, "LOCK_UPDATED", &[0, 1]),
    (0x70, "NEW_CID", &[]),
];
const HEAP_17: &[Operation] = &[
    (0x00, "INSERT", &[0, 1]),
    (0x80, "INSERT+INIT", &[0, 1]),
    (0x10, "DELETE", &[0, 1]),
    (0x20, "UPDATE", &[0, 1, 2, 3]),
    (0xa0, "UPDATE+INIT", &[0, 1, 2, 3]),
    (0x30, "TRUNCATE", &[]),
    (0x40, "HOT_UPDATE", &[0, 3]),
    (0x50, "HEAP_CONFIRM", &[0]),
    (0x60, "LOCK", &[0, 1]),
    (0x70, "INPLACE", &[0]),
];
const BTREE: &[Operation] = &[
    (0x00, "INSERT_LEAF", &[0]),
    (0x10, "INSERT_UPPER", &[0, 1]),
    (0x20, "INSERT_META", &[0, 1, 2]),
    (0x30, "SPLIT_L", &[0, 1, 2, 3]),
    (0x40, "SPLIT_R", &[0, 1, 2, 3]),
    (0x50, "INSERT_POST", &[0]),
    (0x60, "DEDUP", &[0]),
    (0x70, "DELETE", &[0]),
    (0x80, "UNLINK_PAGE", &[0, 1, 2, 3]),
    (0x90, "UNLINK_PAGE_META", &[0, 1, 2, 3, 4]),
    (0xa0, "NEWROOT", &[0, 1, 2]),
    (0xb0, "MARK_PAGE_HALFDEAD", &[0, 1]),
    (0xc0, "VACUUM", &[0]),
    (0xd0, "REUSE_PAGE", &[]),
    (0xe0, "META_CLEANUP", &[0]),
];
const HASH: &[Operation] = &[
    (0x00, "INIT_META_PAGE", &[0]),
    (0x10, "INIT_BITMAP_PAGE", &[0, 1]),
    (0x20, "INSERT", &[0, 1]),
    (0x30, "ADD_OVFL_PAGE", &[0, 1, 2, 3, 4]),
    (0x40, "SPLIT_ALLOCATE_PAGE", &[0, 1, 2]),
    (0x50, "SPLIT_PAGE", &[0]),
    (0x60, "SPLIT_COMPLETE", &[0, 1]),
    (0x70, "MOVE_PAGE_CONTENTS", &[0, 1, 2]),
    (0x80, "SQUEEZE_PAGE", &[0, 1, 2, 3, 4, 5, 6]),
    (0x90, "DELETE", &[0, 1]),
    (0xa0, "SPLIT_CLEANUP", &[0]),
    (0xb0, "UPDATE_META_PAGE", &[0]),
    (0xc0, "VACUUM_ONE_PAGE", &[0, 1]),
];
const GIN: &[Operation] = &[
    (0x10, "CREATE_PTREE", &[0]),
    (0x20, "INSERT", &[0, 1]),
    (0x30, "SPLIT", &[0, 1, 2, 3]),
    (0x40, "VACUUM_PAGE", &[0]),
    (0x50, "DELETE_PAGE", &[0, 1, 2]),
    (0x60, "UPDATE_META_PAGE", &[0, 1]),
    (0x70, "INSERT_LISTPAGE", &[0]),
    (0x80, "DELETE_LISTPAGE", &[0, 1]),
    (0x90, "VACUUM_DATA_LEAF_PAGE", &[0]),
];
const GIST: &[Operation] = &[
    (0x00, "PAGE_UPDATE", &[0, 1]),
    (0x10, "DELETE", &[0]),
    (0x20, "PAGE_REUSE", &[]),
    (0x30, "PAGE_SPLIT", &[0, 1]),
    (0x60, "PAGE_DELETE", &[0, 1]),
    (0x70, "ASSIGN_LSN", &[]),
];
const SEQ: &[Operation] = &[(0x00, "LOG", &[0])];
const SPGIST: &[Operation] = &[
    (0x10, "ADD_LEAF", &[0, 1]),
    (0x20, "MOVE_LEAFS", &[0, 1, 2]),
    (0x30, "ADD_NODE", &[0, 1, 2]),
    (0x40, "SPLIT_TUPLE", &[0, 1]),
    (0x50, "PICKSPLIT", &[0, 1, 2, 3]),
    (0x60, "VACUUM_LEAF", &[0]),
    (0x70, "VACUUM_ROOT", &[0]),
    (0x80, "VACUUM_REDIRECT", &[0]),
];
const BRIN: &[Operation] = &[
    (0x00, "CREATE_INDEX", &[0]),
    (0x10, "INSERT", &[0, 1]),
    (0x90, "INSERT+INIT", &[0, 1]),
    (0x20, "UPDATE", &[0, 1, 2]),
    (0xa0, "UPDATE+INIT", &[0, 1, 2]),
    (0x30, "SAMEPAGE_UPDATE", &[0]),
    (0x40, "REVMAP_EXTEND", &[0, 1]),
    (0x50, "DESUMMARIZE", &[0, 1]),
];
const COMMIT_TS: &[Operation] = &[(0x00, "ZEROPAGE", &[]), (0x10, "TRUNCATE", &[])];
const REPLORIGIN: &[Operation] = &[(0x00, "SET", &[]), (0x10, "DROP", &[])];
const GENERIC: &[Operation] = &[(0x00, "Generic", &[0])];
const LOGICALMSG: &[Operation] = &[(0x00, "MESSAGE", &[])];

/// What differs by version: the operations of every manager, by number.
fn operations(major: Major) -> [&'static [Operation]; 22] {
    let (xlog, heap2, heap) = match major {
        Major::V14 | Major::V15 | Major::V16 => (&XLOG[..XLOG.len() - 1], HEAP2_15, HEAP_15),
        Major::V17 | Major::V18 => (XLOG, HEAP2_17, HEAP_17),
    };
    [
        xlog, XACT, SMGR, CLOG, DBASE, TBLSPC, MULTIXACT, RELMAP, STANDBY, heap2, heap, BTREE, HASH, GIN,
        GIST, SEQ, SPGIST, BRIN, COMMIT_TS, REPLORIGIN, GENERIC, LOGICALMSG,
    ]
}

/// An entry of every version, and what is to be said of it.
type Remark = (u8, u8, Option<u8>, &'static str);

fn is_among(entry: &Entry, remarks: &[Remark]) -> bool {
    let wanted = (entry.manager, entry.operation, entry.reference);
    remarks.iter().any(|&(manager, operation, reference, _)| (manager, operation, reference) == wanted)
}

/// Entries that cannot be seen, and why.
const UNREACHABLE: &[Remark] = &[
    (manager::XLOG, 0x20, None, "XLOG_NOOP is inserted nowhere"),
    (
        manager::HEAP2,
        0x60,
        Some(1),
        "heap_lock_updated_tuple_rec (heapam.c) locks versions that came after one which a snapshot still sees: their \
         pages are not visible to all, let alone frozen",
    ),
    (
        manager::BTREE,
        0x90,
        Some(1),
        "_bt_unlink_halfdead_page (nbtpage.c) takes the metapage only where leftsib == P_NONE",
    ),
    (
        manager::HASH,
        0x80,
        Some(4),
        "_hash_freeovflpage is called only by _hash_squeezebucket (hashovfl.c), with the last page of the chain",
    ),
    (
        manager::GIST,
        0x70,
        None,
        "gistGetFakeLSN (gistutil.c) assigns one only where a permanent index skips WAL: at wal_level minimal, at \
         which no log can be streamed",
    ),
];

/// Entries whose redo leaves the block as it is, and why: leaving the record out changes nothing.
const NO_CHANGE: &[Remark] = &[
    (manager::XLOG, 0xa0, Some(0), "a hint's record without an image: xlog_redo does nothing"),
    (
        manager::HEAP,
        0x50,
        Some(0),
        "redo of the insertion pointed the tuple to itself already; the token of a speculative one is not logged",
    ),
    (manager::HASH, 0x70, Some(0), "hash_xlog_move_page_contents only locks the bucket's first page"),
    (manager::HASH, 0x80, Some(0), "hash_xlog_squeeze_page only locks the bucket's first page"),
    (manager::HASH, 0x90, Some(0), "hash_xlog_delete only locks the bucket's first page"),
];

/// Whether redo of the entry leaves its block as it is.
pub fn changes_nothing(entry: &Entry) -> bool {
    is_among(entry, NO_CHANGE)
}

/// Entries that the short form does not reach, and what does.
const LONG: &[Remark] = &[(
    manager::HASH,
    0x30,
    Some(3),
    "more than 32768 overflow pages in one index: src/scenario/overflow.rs",
)];

/// Whether the short form cannot see the entry.
pub fn is_long(entry: &Entry) -> bool {
    is_among(entry, LONG)
}

fn operation(major: Major, manager: u8, info: u8) -> Option<&'static Operation> {
    let operation = operation_of(manager, info);
    operations(major).get(usize::from(manager))?.iter().find(|known| known.0 == operation)
}

/// Whether the list has the entry's operation, and its reference.
pub fn is_known(entry: &Entry) -> bool {
    let known = operation(entry.major, entry.manager, entry.operation);
    known.is_some_and(|(_, _, references)| entry.reference.is_none_or(|id| references.contains(&id)))
}

/// The operation's name as `pg_waldump` prints it.
pub fn name(major: Major, manager: u8, info: u8) -> &'static str {
    operation(major, manager, info).map_or("unknown", |known| known.1)
}

/// All entries of a version, but those that cannot be seen.
pub fn entries(major: Major) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (manager, operations) in (0..).zip(operations(major)) {
        for &(operation, _, references) in operations {
            let entry = |reference| Entry { major, manager, operation, reference };
            if references.is_empty() {
                entries.push(entry(None));
            }
            entries.extend(references.iter().map(|&id| entry(Some(id))));
        }
    }
    entries.retain(|entry| !is_among(entry, UNREACHABLE));
    entries
}
