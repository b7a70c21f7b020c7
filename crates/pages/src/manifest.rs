//! The manifest: which layers a volume's pages consist of. Drawn in `docs/formats/manifest.md`.
//!
//! Every change writes a whole new manifest under the next generation's name (temporary file, sync, rename, sync of the
//! directory), and then a second copy of it, since nothing on this node could stand in for a manifest whose disk lost a bit:
//! the layers that only the one before it names are gone. The newest that is sound counts. The one before it stays until
//! the next change.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use zorya_types::{GroupId, Key, LogId, Lsn, VolumeId};
use zorya_wire::codec::{Encoded, put_list, put_option};
use zorya_wire::{Malformed, Reader};

use crate::error::{OpenError, WorkError};
use crate::layer::{LayerDesc, LayerKind};

/// The version that this code writes and the newest that it reads.
pub(crate) const MANIFEST_VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"ZORYAMAN";
const HEADER_LEN: usize = 24;
const PREFIX: &str = "manifest-";
/// The suffix of a manifest's second copy.
const COPY_SUFFIX: &str = ".copy";
/// The suffix of files that are still being written.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// What is on disk of a volume's pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Rises by one with every change.
    pub generation: u64,
    pub volume: VolumeId,
    pub log: LogId,
    /// Every group has everything up to here in layers.
    pub persisted: Lsn,
    /// The horizon, as far as layers were deleted for it.
    pub gc: Lsn,
    /// The log branched from another: its values are not complete without its parents'.
    pub branch: bool,
    /// The number of the next layer's file.
    pub next_file: u64,
    /// The last record of every group at or below `persisted`.
    pub tails: Vec<(GroupId, Lsn)>,
    pub layers: Vec<LayerDesc>,
}

impl Manifest {
    /// Of pages that have no layer.
    pub(crate) fn empty(volume: VolumeId, log: LogId) -> Manifest {
        Manifest {
            generation: 0,
            volume,
            log,
            persisted: Lsn::ZERO,
            gc: Lsn::ZERO,
            branch: false,
            next_file: 1,
            tails: Vec::new(),
            layers: Vec::new(),
        }
    }

    fn encode(&self) -> BytesMut {
        let mut body = BytesMut::new();
        body.put_u64_le(self.generation);
        self.volume.put(&mut body);
        self.log.put(&mut body);
        for position in [self.persisted, self.gc] {
            position.put(&mut body);
        }
        self.branch.put(&mut body);
        body.put_u64_le(self.next_file);
        self.tails.put(&mut body);
        put_list(&mut body, &self.layers, put_layer);
        let mut out = BytesMut::with_capacity(HEADER_LEN + body.len());
        out.put_slice(MAGIC);
        out.put_u16_le(MANIFEST_VERSION);
        out.put_u16_le(0);
        out.put_u32_le(body.len() as u32);
        out.put_u32_le(0);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out), &body);
        out.put_u32_le(crc);
        out.put_slice(&body);
        out
    }

    fn decode(bytes: &Bytes) -> Result<Manifest, BadManifest> {
        if bytes.len() < HEADER_LEN || &bytes[..8] != MAGIC {
            return Err(BadManifest::Damaged("no manifest's magic number".to_owned()));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version > MANIFEST_VERSION {
            return Err(BadManifest::NewerFormat(version));
        }
        let body = bytes.slice(HEADER_LEN..);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..HEADER_LEN - 4]), &body);
        if crc.to_le_bytes() != bytes[HEADER_LEN - 4..HEADER_LEN] {
            return Err(BadManifest::Damaged("the checksum differs".to_owned()));
        }
        Self::body(body).map_err(|error| BadManifest::Damaged(error.to_string()))
    }

    fn body(body: Bytes) -> Result<Manifest, Malformed> {
        let mut reader = Reader::new(body);
        let manifest = Manifest {
            generation: reader.u64("generation")?,
            volume: VolumeId::get(&mut reader)?,
            log: LogId::get(&mut reader)?,
            persisted: reader.lsn("persisted")?,
            gc: reader.lsn("gc")?,
            branch: reader.bool("branch")?,
            next_file: reader.u64("next file")?,
            tails: reader.list("tails", 12, |reader| Ok((GroupId::get(reader)?, Lsn::get(reader)?)))?,
            layers: reader.list("layers", 100, get_layer)?,
        };
        reader.finish()?;
        Ok(manifest)
    }

    /// Makes this the manifest of `dir`, durably. On an error before the rename nothing has changed.
    pub(crate) fn install(&self, dir: &Path) -> Result<(), WorkError> {
        let bytes = self.encode();
        let path = dir.join(name(self.generation));
        replace(dir, &path, &bytes).map_err(|(action, source)| WorkError::Io {
            action,
            path: path.clone(),
            source,
        })?;
        // The manifest counts from here on, with a copy or without.
        if let Err((_, error)) = replace(dir, &copy_of(&path), &bytes) {
            tracing::warn!(path = %path.display(), %error, "a manifest has no second copy");
        }
        if let Some(old) = self.generation.checked_sub(2) {
            let old = dir.join(name(old));
            let _ = fs::remove_file(copy_of(&old));
            let _ = fs::remove_file(old);
        }
        Ok(())
    }
}

/// Writes a file whole and durably, or says what failed. On an error before the rename nothing has changed.
fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> Result<(), (&'static str, io::Error)> {
    let temporary = with_suffix(path, TEMPORARY_SUFFIX);
    let written = write_and_sync(&temporary, bytes)
        .and_then(|()| sync_dir(dir))
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(("write", error));
    }
    sync_dir(dir).map_err(|error| ("sync", error))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn copy_of(path: &Path) -> PathBuf {
    with_suffix(path, COPY_SUFFIX)
}

fn put_layer(layer: &LayerDesc, out: &mut BytesMut) {
    out.put_u64_le(layer.file);
    out.put_u8(layer.kind as u8);
    out.put_u8(layer.level);
    layer.group.put(out);
    layer.after.put(out);
    layer.upto.put(out);
    layer.from.put(out);
    layer.to.put(out);
    put_option(out, layer.superseded.as_ref(), Lsn::put);
    out.put_u64_le(layer.entries);
    out.put_u64_le(layer.bytes);
    out.put_slice(&layer.hash);
}

fn get_layer(reader: &mut Reader) -> Result<LayerDesc, Malformed> {
    let file = reader.u64("file")?;
    let kind = match reader.u8("kind")? {
        1 => LayerKind::Delta,
        2 => LayerKind::Image,
        value => return Err(Malformed::BadValue { field: "kind", value: value.into() }),
    };
    Ok(LayerDesc {
        file,
        kind,
        level: reader.u8("level")?,
        group: GroupId::get(reader)?,
        after: reader.lsn("after")?,
        upto: reader.lsn("upto")?,
        from: Key::get(reader)?,
        to: Key::get(reader)?,
        superseded: reader.option("superseded", Lsn::get)?,
        entries: reader.u64("entries")?,
        bytes: reader.u64("bytes")?,
        hash: {
            let mut hash = [0; 32];
            hash.copy_from_slice(&reader.take(32, "hash")?);
            hash
        },
    })
}

/// Why a file is not a manifest.
#[derive(Debug, PartialEq, Eq)]
enum BadManifest {
    Damaged(String),
    NewerFormat(u16),
}

/// The newest sound manifest of a directory whose layers are all there; `None` if there is no manifest at all.
pub(crate) fn newest(dir: &Path) -> Result<Option<Manifest>, OpenError> {
    let mut generations = generations(dir)?;
    generations.sort_unstable_by(|a, b| b.cmp(a));
    generations.dedup();
    let mut damaged = None;
    for generation in generations {
        let path = dir.join(name(generation));
        match load(&path)? {
            Ok(manifest) => match missing_layer(dir, &manifest) {
                None => return Ok(Some(manifest)),
                Some(layer) => {
                    let reason = format!("its layer {} is not there", layer.display());
                    damaged.get_or_insert((path, reason));
                }
            },
            Err(BadManifest::NewerFormat(found)) => {
                return Err(OpenError::NewerFormat { path, found, known: MANIFEST_VERSION });
            }
            Err(BadManifest::Damaged(reason)) => {
                damaged.get_or_insert((path, reason));
            }
        }
    }
    damaged.map_or(Ok(None), |(path, reason)| Err(OpenError::Damaged { path, reason }))
}

/// Reads a manifest, or its copy if it is damaged or not there.
fn load(path: &Path) -> Result<Result<Manifest, BadManifest>, OpenError> {
    let first = read(path)?;
    let Err(BadManifest::Damaged(reason)) = &first else { return Ok(first) };
    match read(&copy_of(path))? {
        Ok(manifest) => {
            tracing::warn!(path = %path.display(), reason, "a manifest is damaged; its copy counts");
            Ok(Ok(manifest))
        }
        Err(_) => Ok(first),
    }
}

fn read(path: &Path) -> Result<Result<Manifest, BadManifest>, OpenError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Manifest::decode(&Bytes::from(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Err(BadManifest::Damaged("it is not there".to_owned())))
        }
        Err(source) => Err(OpenError::Io { action: "read", path: path.to_owned(), source }),
    }
}

fn missing_layer(dir: &Path, manifest: &Manifest) -> Option<PathBuf> {
    let mut paths = manifest.layers.iter().map(|layer| dir.join(layer.file_name(manifest.log)));
    paths.find(|path| !path.exists())
}

fn generations(dir: &Path) -> Result<Vec<u64>, OpenError> {
    let io = |source| OpenError::Io { action: "list", path: dir.to_owned(), source };
    let mut generations = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let digits = digits.map(|digits| digits.strip_suffix(COPY_SUFFIX).unwrap_or(digits));
        generations.extend(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
    }
    Ok(generations)
}

fn name(generation: u64) -> String {
    format!("{PREFIX}{generation:016x}")
}

fn write_and_sync(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(generation: u64) -> Manifest {
        Manifest {
            generation,
            persisted: Lsn(5),
            gc: Lsn(4),
            tails: vec![(GroupId(0), Lsn(2))],
            ..Manifest::empty(VolumeId(1), LogId(2))
        }
    }

    fn sample_layer() -> LayerDesc {
        LayerDesc {
            file: 1,
            kind: LayerKind::Image,
            level: 1,
            group: GroupId(2),
            after: Lsn(3),
            upto: Lsn(3),
            from: Key::MIN,
            to: Key::MAX,
            superseded: Some(Lsn(9)),
            entries: 4,
            bytes: 5,
            hash: [6; 32],
        }
    }

    #[test]
    fn a_manifest_has_these_bytes_in_version_1() {
        let manifest = Manifest { layers: vec![sample_layer()], ..sample(7) };
        let bytes = manifest.encode().freeze();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let u64_of = |value: u8| format!("{value:02x}{}", "00".repeat(7));
        let expected = [
            "5a4f5259414d414e 0100 0000 d0000000 00000000 81323d84".to_owned(),
            u64_of(7),
            format!("01{}", "00".repeat(15)),
            "02000000".to_owned(),
            format!("{}{}00{}", u64_of(5), u64_of(4), u64_of(1)),
            format!("01000000 00000000 {}", u64_of(2)),
            format!("01000000 {} 02 01 02000000 {} {}", u64_of(1), u64_of(3), u64_of(3)),
            format!("{} {}", "00".repeat(24), "ff".repeat(24)),
            format!("01 {} {} {} {}", u64_of(9), u64_of(4), u64_of(5), "06".repeat(32)),
        ];
        assert_eq!(hex, expected.concat().replace(' ', ""));
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&Bytes::from(bad)).is_err(), "bit {bit}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
        ) {
            let _ = Manifest::body(Bytes::from(bytes));
        }
    }

    #[test]
    fn the_newest_sound_manifest_counts_and_a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(newest(dir.path()).unwrap().is_none());
        for generation in 1..=4 {
            sample(generation).install(dir.path()).unwrap();
        }
        assert_eq!(newest(dir.path()).unwrap(), Some(sample(4)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
        let path = dir.path().join(name(4));
        let mut bytes = fs::read(&path).unwrap();
        bytes[30] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(newest(dir.path()).unwrap(), Some(sample(4)), "its copy is sound");
        fs::remove_file(&path).unwrap();
        assert_eq!(newest(dir.path()).unwrap(), Some(sample(4)), "its copy is there");
        fs::write(&path, &bytes).unwrap();
        fs::write(copy_of(&path), &bytes).unwrap();
        assert_eq!(newest(dir.path()).unwrap(), Some(sample(3)));
        bytes[8] = 9;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(newest(dir.path()), Err(OpenError::NewerFormat { found: 9, .. })));
        fs::write(&path, b"ZOR").unwrap();
        fs::write(dir.path().join(name(3)), b"").unwrap();
        fs::write(copy_of(&dir.path().join(name(3))), b"").unwrap();
        assert!(matches!(newest(dir.path()), Err(OpenError::Damaged { .. })));
    }
}
