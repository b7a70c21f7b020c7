//! A node's directory: who the disk belongs to, and which volumes are on it.
//!
//! ```text
//! node.json               format, node id, zone, incarnation
//! log/                    the node log (docs/formats/node-log.md)
//! volumes/<id>/volume.json   format, log id, lineage, membership
//! volumes/<id>/pages/        manifest and layers (docs/formats/layer.md)
//! ```
//! Both JSON files are replaced whole (temporary file, fsync, rename, fsync of the directory).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zorya_types::{Incarnation, LogId, Membership, NodeId, Span, VolumeId};
use zorya_wire::message::node::DiskSpace;

/// The newest format of `node.json` and `volume.json` that this binary reads, and the one that it writes.
const FORMAT: u32 = 1;

/// Why a node's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The operating system's reason.
    #[error("cannot {step} {path}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A description on the disk cannot be read.
    #[error("{path} is damaged: restore it from a copy, or wipe the directory and let the node be rebuilt")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A newer binary wrote it.
    #[error("{path} has format {found}, this binary reads up to {FORMAT}: use a newer zorya")]
    NewerFormat {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The directory is another node's.
    #[error("{path} belongs to storage node {owner}, not to {wanted}: check the data directories")]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: NodeId,
        /// Who was started on it.
        wanted: NodeId,
    },
    /// The directory has a log but no description.
    #[error("{0} holds files but no node.json: it is not a storage node's directory, or it lost that file")]
    NotANode(PathBuf),
}

fn failed<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DiskError + 'a {
    move |source| DiskError::Io { step, path: path.to_owned(), source }
}

#[derive(Serialize, Deserialize)]
struct NodeFile {
    format: u32,
    id: NodeId,
    zone: String,
    incarnation: Incarnation,
}

/// What a node knows of a volume that it keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFile {
    format: u32,
    /// The volume.
    pub volume: VolumeId,
    /// Its log.
    pub log: LogId,
    /// Its history.
    pub lineage: Vec<Span>,
    /// Its replicas.
    pub membership: Membership,
}

impl VolumeFile {
    /// A description in the format that this binary writes.
    pub fn new(volume: VolumeId, log: LogId, lineage: Vec<Span>, membership: Membership) -> VolumeFile {
        VolumeFile { format: FORMAT, volume, log, lineage, membership }
    }
}

/// An opened node directory.
#[derive(Debug)]
pub struct NodeDisk {
    root: PathBuf,
    id: NodeId,
    zone: String,
    incarnation: Incarnation,
}

impl NodeDisk {
    /// Opens a node's directory, or makes one with a new incarnation if it is empty or absent.
    pub fn open(root: &Path, id: &NodeId, zone: &str) -> Result<NodeDisk, DiskError> {
        fs::create_dir_all(root).map_err(failed("create", root))?;
        let description = root.join("node.json");
        let file = match read_versioned::<NodeFile>(&description)? {
            Some(file) => file,
            None => Self::first_use(root, &description, id, zone)?,
        };
        if &file.id != id {
            return Err(DiskError::OtherNode { path: root.to_owned(), owner: file.id, wanted: id.clone() });
        }
        let disk =
            NodeDisk { root: root.to_owned(), id: file.id, zone: file.zone, incarnation: file.incarnation };
        for directory in [disk.log(), disk.volumes()] {
            fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
        }
        Ok(disk)
    }

    fn first_use(root: &Path, description: &Path, id: &NodeId, zone: &str) -> Result<NodeFile, DiskError> {
        let mut listing = fs::read_dir(root).map_err(failed("list", root))?;
        let foreign = listing.any(|entry| {
            entry.is_ok_and(|e| e.file_name() != "lost+found" && e.file_name() != "node.json.tmp")
        });
        if foreign {
            return Err(DiskError::NotANode(root.to_owned()));
        }
        let incarnation = Incarnation(rand::random());
        let file = NodeFile { format: FORMAT, id: id.clone(), zone: zone.to_owned(), incarnation };
        replace(description, &file)?;
        Ok(file)
    }

    /// The node's name.
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// Its zone.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The life of this disk.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Where the node log is.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    fn volume(&self, volume: VolumeId) -> PathBuf {
        self.volumes().join(volume.to_string())
    }

    /// Where a volume's layers are.
    pub fn pages(&self, volume: VolumeId) -> PathBuf {
        self.volume(volume).join("pages")
    }

    /// The file system below: its size, and what this process may still use of it.
    pub fn space(&self) -> io::Result<DiskSpace> {
        let found = rustix::fs::statvfs(&self.root)?;
        Ok(DiskSpace {
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            file_system: found.f_fsid,
        })
    }

    /// Every volume that is kept here.
    pub fn list(&self) -> Result<Vec<VolumeFile>, DiskError> {
        let directory = self.volumes();
        let mut found = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed("list", &directory))? {
            let path = entry.map_err(failed("list", &directory))?.path();
            match read_versioned::<VolumeFile>(&path.join("volume.json"))? {
                Some(file) => found.push(file),
                None => {
                    // A creation or a deletion that did not finish: nothing was ever acknowledged from it, or no more.
                    fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
                }
            }
        }
        Ok(found)
    }

    /// Writes down that a volume is kept here.
    pub fn keep(&self, file: &VolumeFile) -> Result<(), DiskError> {
        let directory = self.volume(file.volume);
        fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
        sync_directory(&self.volumes())?;
        replace(&directory.join("volume.json"), file)
    }

    /// Forgets a volume: first its description, then the rest.
    pub fn forget(&self, volume: VolumeId) -> Result<(), DiskError> {
        let directory = self.volume(volume);
        let description = directory.join("volume.json");
        match fs::remove_file(&description) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &description)(error));
            }
            _ => sync_directory(&directory)?,
        }
        fs::remove_dir_all(&directory).map_err(failed("remove", &directory))
    }
}

#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

fn read_versioned<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, DiskError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let damaged = |source| DiskError::Damaged { path: path.to_owned(), source };
    let any: AnyFormat = serde_json::from_slice(&bytes).map_err(damaged)?;
    if any.format > FORMAT {
        return Err(DiskError::NewerFormat { path: path.to_owned(), found: any.format });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

fn sync_directory(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("sync", path))
}

fn replace<T: Serialize>(path: &Path, value: &T) -> Result<(), DiskError> {
    let temporary = path.with_extension("json.tmp");
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(value).map_err(io::Error::other)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(failed("write", path))?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId(name.to_owned())
    }

    #[test]
    fn a_disk_keeps_its_incarnation_and_its_owner_and_a_wiped_one_gets_another() {
        let root = tempfile::tempdir().unwrap();
        let first = NodeDisk::open(root.path(), &id("a"), "az1").unwrap().incarnation();
        assert_eq!(NodeDisk::open(root.path(), &id("a"), "az1").unwrap().incarnation(), first);
        assert!(matches!(NodeDisk::open(root.path(), &id("b"), "az1"), Err(DiskError::OtherNode { .. })));
        fs::remove_dir_all(root.path()).unwrap();
        assert_ne!(NodeDisk::open(root.path(), &id("a"), "az1").unwrap().incarnation(), first);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_path() {
        let root = tempfile::tempdir().unwrap();
        NodeDisk::open(root.path(), &id("a"), "az1").unwrap();
        let path = root.path().join("node.json");
        let good = fs::read_to_string(&path).unwrap();
        fs::write(&path, good.replace("\"format\": 1", "\"format\": 2")).unwrap();
        let error = NodeDisk::open(root.path(), &id("a"), "az1").unwrap_err();
        assert!(matches!(&error, DiskError::NewerFormat { found: 2, .. }), "{error}");
        fs::write(&path, "{").unwrap();
        assert!(matches!(NodeDisk::open(root.path(), &id("a"), "az1"), Err(DiskError::Damaged { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(NodeDisk::open(root.path(), &id("a"), "az1"), Err(DiskError::NotANode(_))));
    }
}
