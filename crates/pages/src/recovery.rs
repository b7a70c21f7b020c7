//! Finding the pages of a volume in their directory after a stop or a crash.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use zorya_types::{LogId, VolumeId};

use crate::error::OpenError;
use crate::layer::{FILE_SUFFIX, LAYER_VERSION, header_version};
use crate::manifest::{self, Manifest, TEMPORARY_SUFFIX};

/// The manifest to start from. Files that it does not name are removed: a crash left them between a layer's write and
/// the manifest's, or between the manifest's and a layer's removal.
pub(crate) fn recover(dir: &Path, volume: VolumeId, log: LogId) -> Result<Manifest, OpenError> {
    fs::create_dir_all(dir).map_err(|source| io_error("create", dir, source))?;
    let manifest = manifest::newest(dir)?.unwrap_or_else(|| Manifest::empty(volume, log));
    if (manifest.volume, manifest.log) != (volume, log) {
        let (found, found_log) = (manifest.volume, manifest.log);
        return Err(OpenError::OtherVolume { path: dir.to_owned(), volume, log, found, found_log });
    }
    for layer in &manifest.layers {
        refuse_newer(&dir.join(layer.file_name(log)))?;
    }
    remove_orphans(dir, &manifest)?;
    Ok(manifest)
}

/// Damage is not looked for here: it shows in the reads that meet it.
fn refuse_newer(path: &Path) -> Result<(), OpenError> {
    let mut start = [0; 10];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    match read {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
        Err(source) => return Err(io_error("read", path, source)),
    }
    match header_version(&start) {
        Some(found) if found > LAYER_VERSION => {
            Err(OpenError::NewerFormat { path: path.to_owned(), found, known: LAYER_VERSION })
        }
        _ => Ok(()),
    }
}

fn remove_orphans(dir: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    let named: Vec<String> = manifest.layers.iter().map(|layer| layer.file_name(manifest.log)).collect();
    for entry in fs::read_dir(dir).map_err(|source| io_error("list", dir, source))? {
        let entry = entry.map_err(|source| io_error("list", dir, source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let orphan =
            name.ends_with(TEMPORARY_SUFFIX) || (name.ends_with(FILE_SUFFIX) && !named.contains(&name));
        if orphan {
            tracing::info!(file = %entry.path().display(), "removing a file that no manifest names");
            fs::remove_file(entry.path()).map_err(|source| io_error("remove", &entry.path(), source))?;
        }
    }
    Ok(())
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { action, path: path.to_owned(), source }
}
