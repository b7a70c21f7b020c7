//! `region.json`: read once, written atomically at every change.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use super::{FORMAT_VERSION, Region};
use crate::home::write_atomically;

/// A region file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// There is none.
    #[error("there is no region at {path}: make one with `zorya up`")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is one already.
    #[error("there is a region at {path} already")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It could not be read or written.
    #[error("cannot {doing} {path}")]
    Io {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is damaged.
    #[error("{path} is damaged: restore it from a copy")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// It was written by a newer binary.
    #[error("{path} has format {found}, this binary reads up to {FORMAT_VERSION}: run a newer zorya")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// The region in memory, equal to its file.
#[derive(Debug)]
pub struct RegionStore {
    path: PathBuf,
    region: Mutex<Region>,
}

impl RegionStore {
    /// Writes a new region's file.
    pub fn create(path: PathBuf, region: Region) -> Result<RegionStore, RegionError> {
        if path.exists() {
            return Err(RegionError::Exists { path });
        }
        let store = RegionStore { path, region: Mutex::new(region) };
        store.write(&store.get())?;
        Ok(store)
    }

    /// Reads a region's file.
    pub fn open(path: PathBuf) -> Result<RegionStore, RegionError> {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RegionError::Missing { path });
            }
            Err(source) => return Err(RegionError::Io { doing: "read", path, source }),
        };
        // The version alone first: a newer file need not look like this one.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let parsed = serde_json::from_slice::<Versioned>(&bytes);
        match parsed {
            Ok(Versioned { version }) if version > FORMAT_VERSION => {
                return Err(RegionError::Newer { path, found: version });
            }
            Ok(_) => {}
            Err(source) => return Err(RegionError::Malformed { path, source }),
        }
        match serde_json::from_slice(&bytes) {
            Ok(region) => Ok(RegionStore { path, region: Mutex::new(region) }),
            Err(source) => Err(RegionError::Malformed { path, source }),
        }
    }

    /// The region now.
    #[must_use]
    pub fn get(&self) -> Region {
        self.lock().clone()
    }

    /// Changes the region, on disk first. If that fails nothing has changed.
    pub fn update<T>(&self, change: impl FnOnce(&mut Region) -> T) -> Result<T, RegionError> {
        let mut held = self.lock();
        let mut next = held.clone();
        let result = change(&mut next);
        if next != *held {
            self.write(&next)?;
            *held = next;
        }
        Ok(result)
    }

    fn write(&self, region: &Region) -> Result<(), RegionError> {
        let failed = |source| RegionError::Io { doing: "write", path: self.path.clone(), source };
        let mut text = serde_json::to_vec_pretty(region).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        write_atomically(&self.path, 0o600, &text).map_err(failed)
    }

    fn lock(&self) -> MutexGuard<'_, Region> {
        // The guarded value is replaced whole, so a panic elsewhere cannot have left it half changed.
        self.region.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
