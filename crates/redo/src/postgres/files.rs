//! What records do to files as wholes: relations created, truncated and dropped, databases cloned and dropped,
//! tablespaces. Ported from `src/backend/catalog/storage.c`, `commands/dbcommands.c`,
//! `commands/tablespace.c` and `utils/cache/relmapper.c`.

use super::decode::record::{Record, Relation};
use super::error::Underivable;
use super::major::Major;
use super::manager;
use super::xact::{self, Xact};

const SMGR_CREATE: u8 = 0x10;
const SMGR_TRUNCATE: u8 = 0x20;
const TBLSPC_CREATE: u8 = 0x00;
const TBLSPC_DROP: u8 = 0x10;

const TRUNCATE_HEAP: u32 = 1;
const TRUNCATE_VISIBILITY: u32 = 2;
const TRUNCATE_FREE_SPACE: u32 = 4;

/// A database's directory in a tablespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Directory {
    /// The tablespace's OID.
    pub tablespace: u32,
    /// The database's OID.
    pub database: u32,
}

/// What happens to files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileChange<'a> {
    /// A fork of a relation exists from now on, empty.
    Create {
        /// The relation.
        relation: Relation,
        /// The fork.
        fork: u8,
    },
    /// A relation ends after so many blocks; the tail bits of its visibility map go too
    /// ([`super::visibility::truncate_tail`]).
    Truncate {
        /// The relation.
        relation: Relation,
        /// The blocks that stay.
        blocks: u32,
        /// Whether the main fork is cut.
        main: bool,
        /// Whether the visibility map is cut.
        visibility: bool,
        /// Whether the free-space map is cut.
        free_space: bool,
    },
    /// All forks of a relation are gone.
    Drop(Relation),
    /// A directory is a copy of another as it is now.
    CloneDatabase {
        /// The new one.
        to: Directory,
        /// The source.
        from: Directory,
    },
    /// A directory exists, with nothing but its version file.
    CreateDatabase(Directory),
    /// A directory is gone with all in it.
    DropDatabase(Directory),
    /// A tablespace exists; the path is empty for one that lies in the data directory.
    CreateTablespace {
        /// Its OID.
        tablespace: u32,
        /// Where it lies.
        path: &'a [u8],
    },
    /// The map of the catalogs whose files cannot be found in a catalog is this, with its checksum; of the whole
    /// cluster where the directory names no database.
    RelationMap {
        /// The directory.
        directory: Directory,
        /// The file.
        content: &'a [u8],
    },
    /// A tablespace is gone.
    DropTablespace(u32),
}

/// Calls `each` with what the record does to files, in order.
///
/// Follows `smgr_redo`, `dbase_redo`, `tblspc_redo`, and the dropping of relations in `xact_redo_commit` and
/// `xact_redo_abort` of `access/transam/xact.c`.
pub fn changes<'a>(record: &Record<'a>, mut each: impl FnMut(FileChange<'a>)) -> Result<(), Underivable> {
    match record.manager {
        manager::XACT => {
            if let Xact::End(end) = xact::read(record)? {
                end.dropped().for_each(|relation| each(FileChange::Drop(relation)));
            }
            Ok(())
        }
        manager::SMGR => smgr(record).map(each),
        manager::DBASE => dbase(record, each),
        manager::TBLSPC => tablespace(record).map(each),
        manager::RELMAP => relation_map(record).map(each),
        _ => Ok(()),
    }
}

fn unknown(record: &Record<'_>) -> Underivable {
    Underivable::UnknownRecord { manager: record.manager, operation: record.operation() }
}

fn smgr<'a>(record: &Record<'a>) -> Result<FileChange<'a>, Underivable> {
    let mut main = record.fields();
    let relation = |main: &mut super::fields::Fields<'_>| {
        Ok(Relation { tablespace: main.u32()?, database: main.u32()?, number: main.u32()? })
    };
    match record.operation() {
        SMGR_CREATE => {
            let relation = relation(&mut main)?;
            let fork = u8::try_from(main.u32()?).map_err(|_| Underivable::BadRecord("no such fork"))?;
            Ok(FileChange::Create { relation, fork })
        }
        SMGR_TRUNCATE => {
            let blocks = main.u32()?;
            let relation = relation(&mut main)?;
            let flags = main.u32()?;
            if flags & !(TRUNCATE_HEAP | TRUNCATE_VISIBILITY | TRUNCATE_FREE_SPACE) != 0 {
                return Err(Underivable::UnknownFlags(flags as u16));
            }
            let is = |flag| flags & flag != 0;
            let (main, visibility) = (is(TRUNCATE_HEAP), is(TRUNCATE_VISIBILITY));
            Ok(FileChange::Truncate {
                relation,
                blocks,
                main,
                visibility,
                free_space: is(TRUNCATE_FREE_SPACE),
            })
        }
        _ => Err(unknown(record)),
    }
}

/// What a record does to a database.
#[derive(Clone, Copy)]
enum DatabaseChange {
    CreateByCopy,
    CreateByLog,
    Drop,
}

/// What differs by version: what the numbers of the operations mean. Since 15 there is one more.
fn database_change(record: &Record<'_>) -> Option<DatabaseChange> {
    use DatabaseChange::{CreateByCopy, CreateByLog, Drop};
    let operations = match record.major {
        Major::V14 => &[CreateByCopy, Drop][..],
        Major::V15 | Major::V16 | Major::V17 | Major::V18 => &[CreateByCopy, CreateByLog, Drop],
    };
    operations.get(usize::from(record.operation() >> 4)).copied()
}

fn dbase<'a>(record: &Record<'a>, mut each: impl FnMut(FileChange<'a>)) -> Result<(), Underivable> {
    let mut main = record.fields();
    let database = main.u32()?;
    match database_change(record).ok_or_else(|| unknown(record))? {
        DatabaseChange::CreateByCopy => {
            let to = Directory { tablespace: main.u32()?, database };
            let (database, tablespace) = (main.u32()?, main.u32()?);
            each(FileChange::CloneDatabase { to, from: Directory { tablespace, database } });
        }
        DatabaseChange::CreateByLog => {
            each(FileChange::CreateDatabase(Directory { tablespace: main.u32()?, database }));
        }
        DatabaseChange::Drop => {
            for _ in 0..main.u32()? {
                each(FileChange::DropDatabase(Directory { tablespace: main.u32()?, database }));
            }
        }
    }
    Ok(())
}

fn tablespace<'a>(record: &Record<'a>) -> Result<FileChange<'a>, Underivable> {
    let mut main = record.fields();
    let tablespace = main.u32()?;
    match record.operation() {
        TBLSPC_CREATE => {
            let end = main.0.iter().position(|&byte| byte == 0).ok_or(Underivable::ShortRecord)?;
            Ok(FileChange::CreateTablespace { tablespace, path: &main.0[..end] })
        }
        TBLSPC_DROP => Ok(FileChange::DropTablespace(tablespace)),
        _ => Err(unknown(record)),
    }
}

/// Follows `relmap_redo`. The file has 512 bytes up to 15 and 524 from 16 on; the record says.
fn relation_map<'a>(record: &Record<'a>) -> Result<FileChange<'a>, Underivable> {
    if record.operation() != 0 {
        return Err(unknown(record));
    }
    let mut main = record.fields();
    let (database, tablespace, len) = (main.u32()?, main.u32()?, main.u32()? as usize);
    Ok(FileChange::RelationMap { directory: Directory { tablespace, database }, content: main.bytes(len)? })
}
