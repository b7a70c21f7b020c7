//! The blocks that redo has derived so far, over the files that `initdb` left.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use zorya_redo::postgres::decode::record::{BlockTag, FORK_FREE_SPACE, FORK_MAIN, FORK_VISIBILITY, Relation};
use zorya_redo::postgres::files::{Directory, FileChange};
use zorya_redo::postgres::page::{Block, Page};
use zorya_redo::postgres::visibility;
use zorya_redo::postgres::{BLOCK_LEN, checksum};

use crate::relation_files::{BLOCKS_PER_SEGMENT, base_path, directory_path, segment_path};

/// A fork of a relation: its derived blocks, by number; a hole where the block is still as in its base.
#[derive(Clone, Default)]
struct Fork {
    blocks: Vec<Option<Box<Block>>>,
    base: Base,
    /// Whose records changed it.
    manager: Option<u8>,
    /// Whether there is a file, be it empty.
    exists: bool,
}

impl Fork {
    /// How many blocks it has.
    fn len(&self) -> u32 {
        let from_base = if let Base::File { blocks, .. } = self.base { blocks } else { 0 };
        from_base.max(self.blocks.len() as u32)
    }
}

/// Where the content of a fork's untouched blocks is.
#[derive(Clone, Default)]
enum Base {
    /// Not looked for yet.
    #[default]
    Unknown,
    /// There are none.
    None,
    /// In this file, up to that many blocks.
    File { path: PathBuf, blocks: u32 },
}

/// All blocks.
pub struct Store {
    base: PathBuf,
    /// The name of a version's directory in a tablespace.
    version_directory: String,
    forks: HashMap<(Relation, u8), Fork>,
    /// Databases that were cloned from others of the base.
    clones: HashMap<Directory, Directory>,
    /// Databases' directories that were created, and those that are gone.
    directories: BTreeMap<Directory, bool>,
    /// Tablespaces in the data directory that were created and not dropped.
    tablespaces: BTreeSet<u32>,
}

impl Store {
    /// A store over a copy of the data directory as `initdb` made it.
    pub fn over(base: &Path, version_directory: String) -> Self {
        Self {
            base: base.to_owned(),
            version_directory,
            forks: HashMap::new(),
            clones: HashMap::new(),
            directories: BTreeMap::new(),
            tablespaces: BTreeSet::new(),
        }
    }

    fn fork(&mut self, relation: Relation, fork: u8) -> io::Result<&mut Fork> {
        let entry = self.forks.entry((relation, fork)).or_default();
        if matches!(entry.base, Base::Unknown) {
            let home = Directory { tablespace: relation.tablespace, database: relation.database };
            let source = self.clones.get(&home).copied().unwrap_or(home);
            let source = Relation { tablespace: source.tablespace, database: source.database, ..relation };
            entry.base = Base::None;
            if let Some(path) = base_path(source, fork).map(|path| self.base.join(path))
                && let Ok(file) = path.metadata()
            {
                let blocks = (file.len() / BLOCK_LEN as u64) as u32;
                entry.exists = true;
                entry.base = Base::File { path, blocks };
            }
        }
        Ok(entry)
    }

    /// The block, to change; zeroes if it was absent.
    pub fn block(&mut self, tag: BlockTag) -> io::Result<&mut Block> {
        let fork = self.fork(tag.relation, tag.fork)?;
        fork.exists = true;
        let number = tag.block as usize;
        if fork.blocks.len() <= number {
            fork.blocks.resize(number + 1, None);
        }
        let Fork { blocks, base, .. } = fork;
        if blocks[number].is_none() {
            blocks[number] = Some(read_base(base, tag.block)?.unwrap_or_else(|| Box::new([0; BLOCK_LEN])));
        }
        blocks[number].as_deref_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The block, if it exists.
    pub fn existing(&mut self, tag: BlockTag) -> io::Result<Option<&mut Block>> {
        let fork = self.fork(tag.relation, tag.fork)?;
        let exists = fork.blocks.get(tag.block as usize).is_some_and(Option::is_some)
            || matches!(fork.base, Base::File { blocks, .. } if tag.block < blocks);
        if exists { self.block(tag).map(Some) } else { Ok(None) }
    }

    /// Applies what a record does to files.
    pub fn change_files(&mut self, change: &FileChange<'_>) -> io::Result<()> {
        match *change {
            FileChange::Drop(relation) => {
                for fork in 0..4 {
                    self.forks.insert((relation, fork), Fork { base: Base::None, ..Fork::default() });
                }
                Ok(())
            }
            FileChange::Truncate { relation, blocks, main, visibility, free_space } => {
                if main {
                    self.cut(relation, FORK_MAIN, blocks)?;
                }
                if visibility {
                    self.cut_visibility(relation, blocks)?;
                }
                if free_space {
                    self.forks.remove(&(relation, FORK_FREE_SPACE));
                }
                Ok(())
            }
            FileChange::CloneDatabase { to, from } => {
                let source = self.clones.get(&from).copied().unwrap_or(from);
                self.clones.insert(to, source);
                self.directories.insert(to, true);
                let copies: Vec<_> = self
                    .forks
                    .iter()
                    .filter(|((relation, _), _)| in_directory(*relation, from))
                    .map(|((relation, fork), blocks)| {
                        let copy = Relation { tablespace: to.tablespace, database: to.database, ..*relation };
                        ((copy, *fork), blocks.clone())
                    })
                    .collect();
                self.forks.extend(copies);
                Ok(())
            }
            FileChange::Create { relation, fork } => {
                self.fork(relation, fork)?.exists = true;
                Ok(())
            }
            FileChange::CreateDatabase(directory) => {
                self.directories.insert(directory, true);
                Ok(())
            }
            FileChange::DropDatabase(directory) => {
                self.directories.insert(directory, false);
                self.forks.retain(|(relation, _), _| !in_directory(*relation, directory));
                self.clones.remove(&directory);
                Ok(())
            }
            FileChange::CreateTablespace { tablespace, path: [] } => {
                self.tablespaces.insert(tablespace);
                Ok(())
            }
            FileChange::CreateTablespace { .. } => Err(io::Error::other(
                "a tablespace outside of the data directory, of which there can be one only",
            )),
            FileChange::DropTablespace(tablespace) => {
                self.tablespaces.remove(&tablespace);
                Ok(())
            }
            FileChange::RelationMap { .. } => Ok(()),
        }
    }

    /// Removes the blocks from `keep` on.
    fn cut(&mut self, relation: Relation, fork: u8, keep: u32) -> io::Result<()> {
        let fork = self.fork(relation, fork)?;
        fork.blocks.truncate(keep as usize);
        if let Base::File { blocks, .. } = &mut fork.base {
            *blocks = (*blocks).min(keep);
        }
        Ok(())
    }

    fn cut_visibility(&mut self, relation: Relation, heap_blocks: u32) -> io::Result<()> {
        let heap = BlockTag { relation, fork: FORK_MAIN, block: heap_blocks };
        let map = visibility::map_of(heap);
        let partial = !heap_blocks.is_multiple_of(visibility::HEAP_BLOCKS_PER_MAP);
        if partial && let Some(block) = self.existing(map)? {
            visibility::truncate_tail(&mut Page::new(block), heap_blocks);
        }
        self.cut(relation, FORK_VISIBILITY, map.block + u32::from(partial))
    }

    /// The relations and forks that have derived blocks.
    pub fn forks(&self) -> impl Iterator<Item = DerivedFork> + '_ {
        self.forks.iter().map(|(&(relation, fork), entry)| DerivedFork {
            relation,
            fork,
            blocks: entry.blocks.len() as u32,
            len: entry.len(),
            manager: entry.manager,
        })
    }

    /// Whose records changed the block's fork; `None` if only images did.
    pub fn manager_of(&self, tag: BlockTag) -> Option<u8> {
        self.forks.get(&(tag.relation, tag.fork))?.manager
    }

    /// Remembers whose page the block is, to know how to mask it.
    pub fn note_manager(&mut self, tag: BlockTag, manager: u8) {
        if manager != zorya_redo::postgres::manager::XLOG
            && let Some(fork) = self.forks.get_mut(&(tag.relation, tag.fork))
        {
            fork.manager = Some(manager);
        }
    }
}

impl Store {
    /// Makes the files of relations in `target`, which is a copy of the base, what redo derived: databases first, then
    /// every fork that a record touched, with checksums.
    pub fn write_files(&mut self, target: &Path, checksums: bool) -> Result<()> {
        for tablespace in &self.tablespaces {
            fs::create_dir_all(target.join(format!("pg_tblspc/{tablespace}/{}", self.version_directory)))?;
        }
        for (&directory, &exists) in &self.directories {
            let path = target.join(directory_path(directory, &self.version_directory));
            if !exists {
                if path.exists() {
                    fs::remove_dir_all(&path)?;
                }
                continue;
            }
            fs::create_dir_all(&path)?;
            fs::copy(self.base.join("PG_VERSION"), path.join("PG_VERSION"))?;
            // A database that was itself made since the base has all of its blocks in forks.
            let source =
                self.clones.get(&directory).map(|&source| directory_path(source, &self.version_directory));
            let source = source.map(|source| self.base.join(source));
            if let Some(source) = source.filter(|source| source.exists()) {
                for entry in fs::read_dir(source)? {
                    let entry = entry?;
                    fs::copy(entry.path(), path.join(entry.file_name()))?;
                }
            }
        }
        let forks: Vec<_> = self.forks.keys().copied().filter(|(_, fork)| *fork != FORK_FREE_SPACE).collect();
        for (relation, fork) in forks {
            self.write_fork(target, relation, fork, checksums)
                .with_context(|| format!("writing {relation}"))?;
        }
        Ok(())
    }

    fn write_fork(&mut self, target: &Path, relation: Relation, number: u8, checksums: bool) -> Result<()> {
        let directory = Directory { tablespace: relation.tablespace, database: relation.database };
        let directory = target.join(directory_path(directory, &self.version_directory));
        let suffix = ["", "_fsm", "_vm", "_init"][usize::from(number.min(3))];
        let path = directory.join(format!("{}{suffix}", relation.number));
        let fork = self.fork(relation, number)?;
        if !fork.exists {
            if path.exists() {
                fs::remove_file(&path)?;
            }
            return Ok(());
        }
        let blocks = fork.len();
        fs::create_dir_all(&directory)?;
        let mut file = io::BufWriter::new(File::create(&path)?);
        for block in 0..blocks {
            if block > 0 && block.is_multiple_of(BLOCKS_PER_SEGMENT) {
                io::Write::flush(&mut file)?;
                let next = segment_path(&path, block / BLOCKS_PER_SEGMENT);
                file = io::BufWriter::new(File::create(next)?);
            }
            let tag = BlockTag { relation, fork: number, block };
            let mut page = match self.existing(tag)? {
                Some(page) => Box::new(*page),
                None => Box::new([0; BLOCK_LEN]),
            };
            if checksums {
                checksum::set_checksum(&mut page, block);
            }
            io::Write::write_all(&mut file, &page[..])?;
        }
        Ok(io::Write::flush(&mut file)?)
    }
}

/// A fork with derived blocks.
pub struct DerivedFork {
    /// The relation.
    pub relation: Relation,
    /// The fork.
    pub fork: u8,
    /// One more than the highest derived block.
    pub blocks: u32,
    /// How many blocks it has, untouched ones of the base among them.
    pub len: u32,
    /// Whose records changed it; `None` if only images did.
    pub manager: Option<u8>,
}

fn in_directory(relation: Relation, directory: Directory) -> bool {
    relation.tablespace == directory.tablespace && relation.database == directory.database
}

fn read_base(base: &Base, number: u32) -> io::Result<Option<Box<Block>>> {
    let Base::File { path, blocks } = base else { return Ok(None) };
    if number >= *blocks || number >= BLOCKS_PER_SEGMENT {
        return Ok(None);
    }
    let mut block = Box::new([0; BLOCK_LEN]);
    File::open(path)?.read_exact_at(&mut block[..], u64::from(number) * BLOCK_LEN as u64)?;
    Ok(Some(block))
}
