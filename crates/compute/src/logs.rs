//! Log files of supervised processes: opened for appending by whoever spawns, rotated here.
//!
//! A process keeps its log open for its whole life and outlives its agent, so a log cannot be renamed away from it. It
//! is copied and then emptied; what is written between the two is lost. Lines of a log are for people, not for proof.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log is rotated when it is larger.
pub const ROTATE_BYTES: u64 = 16 << 20;
/// How many older logs are kept: `.1` is the newest.
pub const KEPT: u32 = 3;

/// Opens a log for appending, 0600.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Rotates a log that is larger than `limit` bytes. Returns whether it did.
pub fn rotate(path: &Path, limit: u64) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) if found.len() > limit => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    // Copied first: on a full disk the older logs stay as they are.
    let copy = numbered(path, 0);
    if let Err(error) = fs::copy(path, &copy) {
        let _ = fs::remove_file(&copy);
        return Err(error);
    }
    for number in (1..KEPT).rev() {
        match fs::rename(numbered(path, number), numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(copy, numbered(path, 1))?;
    OpenOptions::new().write(true).open(path)?.set_len(0)?;
    Ok(true)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// The last `lines` lines of a log, or as many as its last 64 KiB hold; empty if there is none.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    const WINDOW: u64 = 64 << 10;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
        let mut bytes = Vec::new();
        file.take(WINDOW).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let mut last = VecDeque::with_capacity(lines + 1);
    for line in String::from_utf8_lossy(&bytes).lines() {
        last.push_back(line.to_owned());
        if last.len() > lines {
            last.pop_front();
        }
    }
    last.into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_rotates_under_its_writer_and_keeps_three() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut writer = open(&path).unwrap();
        for round in 0..5 {
            writeln!(writer, "round {round}").unwrap();
            assert!(rotate(&path, 3).unwrap());
            assert!(!rotate(&path, 3).unwrap(), "an empty log stays");
        }
        writeln!(writer, "last").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "last\n");
        for (number, round) in [(1, 4), (2, 3), (3, 2)] {
            assert_eq!(fs::read_to_string(numbered(&path, number)).unwrap(), format!("round {round}\n"));
        }
        assert!(!numbered(&path, 4).exists());
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        assert!(tail(&path, 2).is_empty());
        fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(tail(&path, 2), ["b", "c"]);
    }
}
