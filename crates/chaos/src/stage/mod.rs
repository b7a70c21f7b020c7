//! The stage: three zones as network namespaces, every storage node on a file system of its own.
//!
//! Everything carries a name derived from the work directory; so what an earlier run of the same work directory left
//! behind (it was killed, the machine lost power) is found and removed before a new stage is built. Removing never fails
//! because something is not there.

mod disk;
mod drive;
mod network;
mod power;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use disk::{Disk, DiskError, Medium};
pub use drive::Loss;
pub use network::{COMPUTE, Counters, Network, NetworkError};

use crate::process;
use crate::shell::{self, ShellError};

/// The zones.
pub const ZONES: [&str; 3] = ["az1", "az2", "az3"];
/// The nodes of a zone.
const PLACES: [&str; 2] = ["a", "b"];
/// The first node port of a zone; the next node has the next one.
const FIRST_PORT: u16 = 7101;

/// A storage node's place on the stage.
#[derive(Clone, Debug)]
pub struct NodePlace {
    /// Its name.
    pub id: String,
    /// Its zone.
    pub zone: &'static str,
    /// Its port in its zone's namespace.
    pub port: u16,
    /// Its file system.
    pub disk: Disk,
}

/// Network, disks and files of one run.
#[derive(Debug)]
pub struct Stage {
    work: PathBuf,
    /// The zones' network.
    pub network: Network,
    /// The storage nodes, by name.
    pub nodes: Vec<NodePlace>,
}

/// A stage that could not be built.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Its directories.
    #[error("cannot {step} {path}")]
    Files {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Its disks.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A program that is needed.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// Not root.
    #[error(
        "chaos needs root: it makes network namespaces, loop devices and file systems, and cuts their power. \
         Run it with sudo (`make chaos` does)"
    )]
    NotRoot,
}

fn failed<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> StageError + 'a {
    move |source| StageError::Files { step, path: path.to_owned(), source }
}

impl Stage {
    /// Removes what an earlier run left, then builds a stage with empty disks of `disk_mib` each. The calling thread and
    /// the processes that it starts from now on are in the compute namespace.
    pub fn build(work: &Path, disk_mib: u64, medium: Medium) -> Result<Stage, StageError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(StageError::NotRoot);
        }
        let mut stage = Stage::plan(work);
        stage.clear();
        std::fs::create_dir_all(work).map_err(failed("make", work))?;
        stage.network.make()?;
        for node in &mut stage.nodes {
            node.disk.make(disk_mib, medium)?;
        }
        let layout = stage.layout();
        std::fs::write(stage.layout_file(), layout).map_err(failed("write", &stage.layout_file()))?;
        stage.network.enter_compute()?;
        Ok(stage)
    }

    fn plan(work: &Path) -> Stage {
        let network = Network::named(&format!("zc{:06x}", tag(work)));
        let place = |zone: &'static str, place: usize| {
            let id = format!("{zone}-{}", PLACES[place]);
            let disk = Disk::at(work.join("disks").join(format!("{id}.img")), work.join("disks").join(&id));
            NodePlace { id, zone, port: FIRST_PORT + place as u16, disk }
        };
        let nodes = ZONES.iter().flat_map(|zone| (0..PLACES.len()).map(move |at| place(zone, at))).collect();
        Stage { work: work.to_owned(), network, nodes }
    }

    /// The directory of everything.
    #[must_use]
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// The region's home.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.work.join("home")
    }

    /// The layout for `zorya up`.
    #[must_use]
    pub fn layout_file(&self) -> PathBuf {
        self.work.join("layout.toml")
    }

    /// A node of the stage, which must be there.
    #[must_use]
    pub fn node(&self, id: &str) -> &NodePlace {
        let found = self.nodes.iter().find(|node| node.id == id);
        found.unwrap_or_else(|| panic!("the stage has no node {id}"))
    }

    /// The nodes of a zone.
    #[must_use]
    pub fn zone(&self, zone: &str) -> Vec<String> {
        self.nodes.iter().filter(|node| node.zone == zone).map(|node| node.id.clone()).collect()
    }

    fn layout(&self) -> String {
        let table = |node: &NodePlace| {
            format!(
                "[[node]]\nid = \"{}\"\nzone = \"{}\"\ndata = \"{}\"\nlisten = \"{}:{}\"\nnetns = \"{}\"\n\n",
                node.id,
                node.zone,
                node.disk.data().display(),
                Network::address(node.zone),
                node.port,
                self.network.namespace(node.zone),
            )
        };
        self.nodes.iter().map(table).collect()
    }

    /// Removes every process, mount, device and namespace of this stage, and its files. What cannot be removed is named
    /// on stderr; the next run tries again.
    pub fn clear(&self) {
        self.end_processes();
        for node in &self.nodes {
            if let Err(error) = node.disk.unmake() {
                eprintln!("chaos: {error}");
            }
        }
        self.network.unmake();
        if let Err(error) = std::fs::remove_dir_all(&self.work)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("chaos: cannot remove {}: {error}", self.work.display());
        }
    }

    /// As [`Stage::clear`], but the region's logs stay for whoever looks into a failure.
    pub fn clear_but_keep_logs(&self) {
        let kept = self.work.with_extension("failed");
        let _ = std::fs::remove_dir_all(&kept);
        let copied = shell::run("cp", &["-a", &self.home().to_string_lossy(), &kept.to_string_lossy()]);
        match copied {
            Ok(_) => eprintln!("chaos: the region's logs are in {}", kept.display()),
            Err(error) => eprintln!("chaos: cannot keep the region's logs: {error}"),
        }
        self.clear();
    }

    /// Kills everything in the stage's namespaces except this process. They hold nothing else.
    fn end_processes(&self) {
        let own = std::process::id() as i32;
        for _ in 0..3 {
            let mut found = self.network.processes();
            found.retain(|process| process.pid != own);
            for process in &found {
                if let Err(error) = process.signal(nix::sys::signal::Signal::SIGKILL) {
                    eprintln!("chaos: {error}");
                }
            }
            abort_mounts(&found);
            for process in &found {
                let _ = process.wait_gone(Duration::from_secs(5));
            }
            if found.is_empty() {
                return;
            }
        }
    }

    /// The stage of a work directory as its names tell, to clear it from a panic or a signal.
    #[must_use]
    pub fn of(work: &Path) -> Stage {
        Stage::plan(work)
    }
}

/// A process in a FUSE request ignores SIGKILL until the connection is aborted; with all mount daemons killed the kernel
/// does that itself, as soon as the last of their threads is gone.
fn abort_mounts(killed: &[process::Process]) {
    for process in killed.iter().filter(|process| process.is_stopped()) {
        let _ = process.signal(nix::sys::signal::Signal::SIGCONT);
    }
}

/// Six hexadecimal digits that tell one work directory from another.
fn tag(work: &Path) -> u32 {
    crc32c::crc32c(work.to_string_lossy().as_bytes()) & 0xff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_three_zones_of_two_on_disks_of_their_own() {
        let stage = Stage::plan(Path::new("/w"));
        let ids: Vec<_> = stage.nodes.iter().map(|node| node.id.as_str()).collect();
        assert_eq!(ids, ["az1-a", "az1-b", "az2-a", "az2-b", "az3-a", "az3-b"]);
        assert_eq!(stage.zone("az2"), ["az2-a", "az2-b"]);
        let layout = stage.layout();
        assert!(layout.contains("listen = \"10.77.3.1:7102\""), "{layout}");
        assert_eq!(layout.matches("netns").count(), 6);
        assert_ne!(tag(Path::new("/a")), tag(Path::new("/b")));
    }
}
