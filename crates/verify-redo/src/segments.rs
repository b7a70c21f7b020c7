//! The log of a server that is stopped, from its files.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use zorya_redo::postgres::WalPosition;

use crate::SEGMENT_LEN;

/// Bytes that are read at once.
const CHUNK_LEN: usize = 1 << 20;

/// The bytes of a log from some position on. Where timelines have the same segment, the newest one's goes on.
pub struct Segments {
    wal: PathBuf,
    at: WalPosition,
    open: Option<File>,
    chunk: Vec<u8>,
}

impl Segments {
    /// The log in a data directory.
    pub fn open(data: &Path, start: WalPosition) -> Self {
        Self { wal: data.join("pg_wal"), at: start, open: None, chunk: Vec::new() }
    }

    /// The next bytes; `None` behind the last segment. The last one ends with zeroes.
    pub fn next(&mut self) -> Result<Option<&[u8]>> {
        let offset = self.at.0 % SEGMENT_LEN;
        if offset == 0 || self.open.is_none() {
            let Some(path) = self.newest(self.at.0 / SEGMENT_LEN)? else { return Ok(None) };
            let mut file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
            std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(offset))?;
            self.open = Some(file);
        }
        let file = self.open.as_mut().context("no segment")?;
        self.chunk.resize(CHUNK_LEN.min((SEGMENT_LEN - offset) as usize), 0);
        file.read_exact(&mut self.chunk)?;
        self.at = self.at.after(self.chunk.len());
        Ok(Some(&self.chunk))
    }

    /// The file of a segment: 8 digits of timeline, and 16 of the segment's number in two halves.
    fn newest(&self, number: u64) -> Result<Option<PathBuf>> {
        let wanted = segment_name(0, number);
        let mut newest = None;
        for entry in fs::read_dir(&self.wal)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.len() == wanted.len() && name[8..] == wanted[8..] {
                newest = newest.max(Some(name));
            }
        }
        Ok(newest.map(|name| self.wal.join(name)))
    }
}

/// The name of a segment's file.
pub fn segment_name(timeline: u32, number: u64) -> String {
    let per_file = 0x1_0000_0000 / SEGMENT_LEN;
    format!("{timeline:08X}{:08X}{:08X}", number / per_file, number % per_file)
}
