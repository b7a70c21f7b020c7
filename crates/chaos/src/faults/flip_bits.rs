//! Bits that flip in a stopped node's files. Its replica must notice, and the others must make up for it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::targets::Targets;
use super::{Fault, FaultError, Scene};
use crate::seed::Numbers;

/// Which files are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Files of the node log.
    Log,
    /// Layers of pages.
    Layers,
    /// The lists of a volume's layers.
    Manifests,
}

/// How many bits flip.
const BITS: usize = 8;

/// Among how many of the newest files one is chosen.
const NEWEST: usize = 3;

/// One flipped bit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Flip {
    path: PathBuf,
    offset: u64,
    /// The byte as it is now.
    now: u8,
}

/// Flips bits.
#[derive(Debug)]
pub struct FlipBits {
    targets: Targets,
    place: Where,
    numbers: Numbers,
    flips: Vec<Flip>,
}

impl FlipBits {
    /// Flips bits there in the files of these.
    #[must_use]
    pub fn new(targets: Targets, place: Where, seed: u64) -> FlipBits {
        FlipBits { targets, place, numbers: Numbers::from_seed(seed), flips: Vec::new() }
    }

    fn damage(&mut self, data: &Path) -> Result<(), FaultError> {
        let files = candidates(data, self.place);
        if files.is_empty() {
            return Err(FaultError::NoTarget(format!("{:?} file in {}", self.place, data.display())));
        }
        // The newest are the ones that are still needed.
        let path = self.numbers.pick(&files[files.len().saturating_sub(NEWEST)..]);
        let found = flip(path, &mut self.numbers)
            .map_err(|source| FaultError::Damage { path: path.clone(), source })?;
        if found.is_empty() {
            return Err(FaultError::NoTarget(format!("used byte in {}", path.display())));
        }
        self.flips.extend(found);
        Ok(())
    }
}

/// The files that may be hit, the one last written to last.
fn candidates(data: &Path, place: Where) -> Vec<PathBuf> {
    let mut found = Vec::new();
    match place {
        Where::Log => collect(&data.join("log"), &mut found),
        Where::Layers | Where::Manifests => {
            for volume in fs::read_dir(data.join("volumes")).into_iter().flatten().flatten() {
                collect(&volume.path().join("pages"), &mut found);
            }
        }
    }
    found.retain(|(path, _)| {
        let is_layer = path.extension().is_some_and(|extension| extension == "layer");
        // The one that a node reads first, not its copy.
        let is_manifest = path
            .file_name()
            .map(|name| name.to_string_lossy())
            .is_some_and(|name| name.starts_with("manifest-") && !name.ends_with(".copy"));
        match place {
            Where::Log => path.extension().is_some_and(|extension| extension == "log"),
            Where::Layers => is_layer,
            Where::Manifests => is_manifest,
        }
    });
    found.sort_by_key(|(_, written)| *written);
    found.into_iter().map(|(path, _)| path).collect()
}

fn collect(directory: &Path, found: &mut Vec<(PathBuf, std::time::SystemTime)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            collect(&entry.path(), found);
        } else if metadata.len() > 0
            && let Ok(written) = metadata.modified()
        {
            found.push((entry.path(), written));
        }
    }
}

/// Flips bits of bytes that are not zero: in a log file that is zero-written these were never used.
fn flip(path: &Path, numbers: &mut Numbers) -> io::Result<Vec<Flip>> {
    let content = fs::read(path)?;
    let used: Vec<usize> = (0..content.len()).filter(|at| content[*at] != 0).collect();
    if used.is_empty() {
        return Ok(Vec::new());
    }
    let file = OpenOptions::new().write(true).open(path)?;
    let mut flips: Vec<Flip> = Vec::new();
    for _ in 0..BITS {
        let offset = *numbers.pick(&used);
        let now = content[offset] ^ (1 << numbers.below(8));
        file.write_all_at(&[now], offset as u64)?;
        flips.retain(|flip| flip.offset != offset as u64);
        flips.push(Flip { path: path.to_owned(), offset: offset as u64, now });
    }
    file.sync_all()?;
    Ok(flips)
}

fn is_there(flip: &Flip) -> bool {
    let mut byte = [0];
    let read = File::open(&flip.path).and_then(|file| file.read_exact_at(&mut byte, flip.offset));
    read.is_ok() && byte[0] == flip.now
}

impl Fault for FlipBits {
    fn inject(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        for id in self.targets.ids.clone() {
            scene.region.stop_node(&id)?;
            self.damage(&scene.stage.node(&id).disk.data())?;
        }
        Ok(())
    }

    fn seen(&mut self, _scene: Scene<'_>) -> Option<String> {
        let there = self.flips.iter().filter(|flip| is_there(flip)).count();
        let path = &self.flips.first()?.path;
        (there > 0).then(|| format!("{there} damaged bytes are read back from {}", path.display()))
    }

    fn heal(&mut self, scene: Scene<'_>) -> Result<(), FaultError> {
        for id in &self.targets.ids {
            scene.region.start_node(id)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_bytes_of_the_newest_file_are_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::create_dir(&log).unwrap();
        let mut content = vec![0; 10_000];
        content[4000..4100].fill(0x55);
        let late = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
        for newer in ["1.log", "2.log", "3.log"] {
            fs::write(log.join(newer), &content).unwrap();
            File::options().write(true).open(log.join(newer)).unwrap().set_modified(late).unwrap();
        }
        fs::write(log.join("0.log"), [1; 9000]).unwrap();
        fs::write(log.join("spare-4"), [1; 9000]).unwrap();
        let mut fault = FlipBits::new(Targets { ids: vec!["n".to_owned()] }, Where::Log, 5);
        fault.damage(dir.path()).unwrap();
        assert!(fault.flips.iter().all(|flip| (4000..4100).contains(&flip.offset) && is_there(flip)));
        assert_eq!(fs::read(log.join("0.log")).unwrap(), [1; 9000], "an old file is left alone");
        let mut layers = FlipBits::new(Targets { ids: vec!["n".to_owned()] }, Where::Layers, 5);
        assert!(matches!(layers.damage(dir.path()), Err(FaultError::NoTarget(_))));
    }
}
