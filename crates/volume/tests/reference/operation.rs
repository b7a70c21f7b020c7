//! Operations.
//!
//! An operation names its file by a path of a fixed list or by the slot of an open handle, so that it means something
//! whatever was done before it: taking operations out of a sequence leaves a sequence.

use zorya_volume::EngineClass;

/// Open handles at a time.
pub const SLOTS: u8 = 4;

/// A range of bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub offset: u64,
    pub len: u32,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    pub read: bool,
    pub write: bool,
    pub append: bool,
    pub truncate: bool,
    pub create: bool,
    pub exclusive: bool,
    pub direct: bool,
    pub dsync: bool,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// pwrite(2).
    Plain,
    /// pwritev2(2) with RWF_DSYNC.
    Dsync,
    /// pwrite(2) from a buffer that lies so many bytes beyond the start of a memory page not touched before: the
    /// kernel may take it in several pieces.
    FromUntouchedMemory(u16),
    /// A shared mapping and msync(MS_SYNC).
    MappedAndSynced,
    /// A shared mapping, unmapped.
    Mapped,
}

/// What fallocate(2) is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    Extend,
    KeepSize,
    Punch,
    Zero,
    ZeroKeepSize,
    Collapse,
    Insert,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Open {
        slot: u8,
        path: u8,
        how: How,
    },
    Close {
        slot: u8,
    },
    Read {
        slot: u8,
        span: Span,
    },
    ReadMapped {
        slot: u8,
        span: Span,
    },
    Write {
        slot: u8,
        span: Span,
        fill: u8,
        writing: Writing,
    },
    Truncate {
        path: u8,
        size: u64,
    },
    TruncateOpen {
        slot: u8,
        size: u64,
    },
    Allocate {
        slot: u8,
        span: Span,
        allocation: Allocation,
    },
    Sync {
        slot: u8,
    },
    SyncData {
        slot: u8,
    },
    SyncDirectory {
        path: u8,
    },
    Rename {
        from: u8,
        to: u8,
        replace: bool,
    },
    Link {
        from: u8,
        to: u8,
    },
    Unlink {
        path: u8,
    },
    Symlink {
        path: u8,
        target: u8,
    },
    ReadLink {
        path: u8,
    },
    MakeDirectory {
        path: u8,
    },
    RemoveDirectory {
        path: u8,
    },
    List {
        path: u8,
    },
    ListWhileChanging {
        path: u8,
        entries: u8,
    },
    SetMode {
        path: u8,
        mode: u16,
    },
    SetOwner {
        path: u8,
        uid: u8,
        gid: u8,
    },
    SetTimes {
        path: u8,
        access: Option<u32>,
        change: Option<u32>,
    },
    Status {
        path: u8,
    },
    StatusOpen {
        slot: u8,
    },
    SeekEnd {
        slot: u8,
    },
    CopyRange {
        from: u8,
        to: u8,
        span: Span,
        offset: u64,
    },
    SendFile {
        from: u8,
        to: u8,
        span: Span,
    },
    /// The kernel forgets what it caches of the file.
    Forget {
        slot: u8,
    },
    /// The daemon's block cache forgets everything that is durable, because something large passes through it.
    Flood,
}

impl Operation {
    /// Its kind, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Operation::Open { how, .. } if how.direct => "open_direct",
            Operation::Open { .. } => "open",
            Operation::Close { .. } => "close",
            Operation::Read { .. } => "read",
            Operation::ReadMapped { .. } => "read_mapped",
            Operation::Write { writing, .. } => match writing {
                Writing::Plain => "write",
                Writing::Dsync => "write_rwf_dsync",
                Writing::FromUntouchedMemory(_) => "write_from_untouched_memory",
                Writing::MappedAndSynced => "write_mapped_msync",
                Writing::Mapped => "write_mapped",
            },
            Operation::Truncate { .. } | Operation::TruncateOpen { .. } => "truncate",
            Operation::Allocate { allocation, .. } => match allocation {
                Allocation::Extend | Allocation::KeepSize => "fallocate",
                Allocation::Punch => "punch_hole",
                Allocation::Zero | Allocation::ZeroKeepSize => "zero_range",
                Allocation::Collapse | Allocation::Insert => "collapse_or_insert_range",
            },
            Operation::Sync { .. } => "fsync",
            Operation::SyncData { .. } => "fdatasync",
            Operation::SyncDirectory { .. } => "fsync_directory",
            Operation::Rename { replace: true, .. } => "rename",
            Operation::Rename { .. } => "rename_noreplace",
            Operation::Link { .. } => "link",
            Operation::Unlink { .. } => "unlink",
            Operation::Symlink { .. } => "symlink",
            Operation::ReadLink { .. } => "readlink",
            Operation::MakeDirectory { .. } => "mkdir",
            Operation::RemoveDirectory { .. } => "rmdir",
            Operation::List { .. } => "readdir",
            Operation::ListWhileChanging { .. } => "readdir_while_changing",
            Operation::SetMode { .. } => "chmod",
            Operation::SetOwner { .. } => "chown",
            Operation::SetTimes { .. } => "utimens",
            Operation::Status { .. } | Operation::StatusOpen { .. } => "stat",
            Operation::SeekEnd { .. } => "lseek_end",
            Operation::CopyRange { .. } => "copy_file_range",
            Operation::SendFile { .. } => "sendfile",
            Operation::Forget { .. } => "fadvise_dontneed",
            Operation::Flood => "flood",
        }
    }

    /// Whether it touches memory that the file system stands behind: where that dies, so does whoever touches it.
    pub fn is_mapped(&self) -> bool {
        matches!(
            self,
            Operation::ReadMapped { .. }
                | Operation::Write { writing: Writing::Mapped | Writing::MappedAndSynced, .. }
        )
    }

    /// Whether everything before it is durable once it returned well.
    pub fn is_sync(&self) -> bool {
        match self {
            Operation::Sync { .. } | Operation::SyncData { .. } | Operation::SyncDirectory { .. } => true,
            Operation::Write { writing: Writing::Dsync | Writing::MappedAndSynced, span, .. } => span.len > 0,
            _ => false,
        }
    }
}

/// The paths that operations name. Directories come before what lies in them.
pub fn paths(class: EngineClass) -> &'static [&'static str] {
    match class {
        EngineClass::None | EngineClass::Mariadb => &[
            "d",
            "d/e",
            "f",
            "a",
            "b",
            "c",
            "d/a",
            "d/b",
            "d/e/a",
            "d/e/b",
            "f/a",
            "f/e",
            "f/e/a",
            "a/b",
            LONG_NAME,
            TOO_LONG_NAME,
        ],
        EngineClass::Postgres => &[
            "base",
            "base/5",
            "base/6",
            "base/pgsql_tmp",
            "global",
            "pg_xact",
            "pg_stat_tmp",
            "pg_wal",
            "d",
            "base/5/16384",
            "base/5/16384.1",
            "base/5/16385",
            "base/5/16385_fsm",
            "base/5/t3_16390",
            "base/5/PG_VERSION",
            "base/6/16384",
            "base/pgsql_tmp/s",
            "base/pgsql_tmp/s/a",
            "global/1260",
            "global/pg_control",
            "pg_xact/0000",
            "pg_stat_tmp/a",
            "pg_stat_tmp/b",
            "postmaster.pid",
            "pg_wal/000000010000000000000001",
            "a",
            "b",
            "d/a",
            "d/5",
            "d/5/16384",
        ],
    }
}

/// What every sequence begins with: the first directories of the list, and an open file in every slot.
pub fn beginning(class: EngineClass) -> Vec<Operation> {
    let (directories, files): (u8, [u8; SLOTS as usize]) = match class {
        EngineClass::None | EngineClass::Mariadb => (3, [3, 4, 6, 8]),
        EngineClass::Postgres => (9, [9, 11, 13, 25]),
    };
    let how = How { read: true, write: true, create: true, ..How::default() };
    let directories = (0..directories).map(|path| Operation::MakeDirectory { path });
    let open = |(slot, &path): (usize, &u8)| Operation::Open { slot: slot as u8, path, how };
    directories.chain(files.iter().enumerate().map(open)).collect()
}

const LONG_NAME: &str = concat!(
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
);
const TOO_LONG_NAME: &str = concat!(
    "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm",
    "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm",
    "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm",
    "m",
);
/// Targets of symbolic links. None leaves the directory that the link is in.
pub const TARGETS: [&str; 8] = ["a", "b", "e", "e/a", "5", "16384", "nowhere/at/all", "d/e"];
