//! Where a data directory keeps its relations, and their blocks there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use zorya_redo::postgres::BLOCK_LEN;
use zorya_redo::postgres::decode::record::Relation;
use zorya_redo::postgres::files::Directory;
use zorya_redo::postgres::page::Block;

const DEFAULT_TABLESPACE: u32 = 1663;
const GLOBAL_TABLESPACE: u32 = 1664;
/// Blocks of a file; the next ones are in another.
pub const BLOCKS_PER_SEGMENT: u32 = 131_072;

/// The path of a fork's first file below a data directory. Only the two tablespaces of a fresh cluster have one.
pub fn base_path(relation: Relation, fork: u8) -> Option<PathBuf> {
    let suffix = ["", "_fsm", "_vm", "_init"].get(usize::from(fork))?;
    match relation.tablespace {
        DEFAULT_TABLESPACE => Some(format!("base/{}/{}{suffix}", relation.database, relation.number).into()),
        GLOBAL_TABLESPACE => Some(format!("global/{}{suffix}", relation.number).into()),
        _ => None,
    }
}

/// A database's directory below a data directory. A tablespace has one directory for a version of PostgreSQL.
pub fn directory_path(directory: Directory, version_directory: &str) -> PathBuf {
    let Directory { tablespace, database } = directory;
    match tablespace {
        DEFAULT_TABLESPACE => format!("base/{database}").into(),
        GLOBAL_TABLESPACE => "global".into(),
        _ => format!("pg_tblspc/{tablespace}/{version_directory}/{database}").into(),
    }
}

/// The file of a fork's segment.
pub fn segment_path(first: &Path, segment: u32) -> PathBuf {
    let mut name = first.as_os_str().to_owned();
    if segment > 0 {
        name.push(format!(".{segment}"));
    }
    name.into()
}

/// The files of a fork in a data directory.
pub struct RelationFiles {
    path: Option<PathBuf>,
    open: Option<(u32, File)>,
}

impl RelationFiles {
    /// Looks for the fork's first file.
    pub fn open(data: &Path, relation: Relation, fork: u8) -> io::Result<Self> {
        let suffix = ["", "_fsm", "_vm", "_init"][usize::from(fork.min(3))];
        let path = match base_path(relation, fork) {
            Some(path) => Some(data.join(path)),
            None => version_directory(&data.join(format!("pg_tblspc/{}", relation.tablespace)))?
                .map(|version| version.join(format!("{}/{}{suffix}", relation.database, relation.number))),
        };
        Ok(Self { path, open: None })
    }

    /// Reads a block; says whether it exists.
    pub fn read(&mut self, block: u32, into: &mut Block) -> io::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        let segment = block / BLOCKS_PER_SEGMENT;
        if self.open.as_ref().is_none_or(|(open, _)| *open != segment) {
            match File::open(segment_path(path, segment)) {
                Ok(file) => self.open = Some((segment, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let Some((_, file)) = &self.open else { return Ok(false) };
        match file.read_exact_at(into, u64::from(block % BLOCKS_PER_SEGMENT) * BLOCK_LEN as u64) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The one directory in a tablespace, named after the version.
fn version_directory(tablespace: &Path) -> io::Result<Option<PathBuf>> {
    match std::fs::read_dir(tablespace) {
        Ok(mut entries) => entries.next().transpose().map(|entry| entry.map(|entry| entry.path())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
