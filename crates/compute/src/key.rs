//! The region's key: 32 random bytes in a file of mode 0600, by which every process of the region proves itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zorya_wire::handshake::{RegionKey, SECRET_LEN};

use crate::home::write_atomically;
use crate::region::RegionId;

/// A key file that cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read or written.
    #[error("cannot {doing} the region's key {path}")]
    Io {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file's content is not a key.
    #[error("{path} is not a region key (\"<region> <secret>\", {} hexadecimal digits): restore it from a copy", 32 + 2 * SECRET_LEN)]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// Makes a fresh key for a region. An existing file is replaced.
pub fn create(path: &Path, region: RegionId) -> Result<(), KeyError> {
    let secret: [u8; SECRET_LEN] = rand::random();
    let text = format!("{region} {}\n", hex(&secret));
    write_atomically(path, 0o600, text.as_bytes()).map_err(|source| KeyError::Io {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

/// Reads a key file. The file names its region, so that a process needs nothing else to prove itself.
pub fn read(path: &Path) -> Result<RegionKey, KeyError> {
    let text = fs::read_to_string(path).map_err(|source| KeyError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    parse(text.trim()).ok_or_else(|| KeyError::Malformed { path: path.to_owned() })
}

fn parse(text: &str) -> Option<RegionKey> {
    let (region, secret) = text.split_once(' ')?;
    let region: RegionId = region.parse().ok()?;
    if secret.len() != 2 * SECRET_LEN || !secret.is_ascii() {
        return None;
    }
    let mut bytes = [0; SECRET_LEN];
    for (byte, digits) in bytes.iter_mut().zip(secret.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(RegionKey { region: region.0, secret: bytes })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_reads_back_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("region.key");
        create(&path, RegionId(7)).unwrap();
        let first = read(&path).unwrap();
        assert_eq!(first.region, 7);
        assert_eq!(first.secret, read(&path).unwrap().secret);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        create(&path, RegionId(7)).unwrap();
        assert_ne!(first.secret, read(&path).unwrap().secret, "keys are random");
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("region.key");
        for text in ["", "abc", "00000000000000000000000000000007 zz", "é 00"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(read(&path), Err(KeyError::Malformed { .. })), "{text:?}");
        }
    }
}
