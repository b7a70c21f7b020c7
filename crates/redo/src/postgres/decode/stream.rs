//! The records in a stream of WAL bytes that arrive in chunks of any size.
//!
//! A [`WalStream`] is fed the bytes of the log from some position on and hands out the records in them. A record that
//! lies whole in one page of one chunk is a slice of the chunk; one that crosses pages or chunks is put together in a
//! buffer that is reused. Nothing else is copied and nothing is allocated per record.
//!
//! The end is not damage: a record whose rest has not arrived is waited for ([`Next::More`]), and where nothing was
//! written yet, a length or a page header of zeroes, is [`Next::End`]. Whatever else does not fit (checksum, link to
//! the record before, page header) is [`Damage`] with its position, after which the stream must not be used.

use super::record::RECORD_HEADER_LEN;
use crate::postgres::fields::{align8, u16_at, u32_at, u64_at};
use crate::postgres::major::Major;
use crate::postgres::position::{BLOCK_LEN, WalPosition};

pub(crate) const SHORT_PAGE_HEADER_LEN: usize = 24;
/// Of a segment's first page.
pub(crate) const LONG_PAGE_HEADER_LEN: usize = 40;

pub(crate) const PAGE_CONTINUES_RECORD: u16 = 0x0001;
pub(crate) const PAGE_LONG_HEADER: u16 = 0x0002;
const PAGE_OVERWRITES_RECORD: u16 = 0x0008;
const PAGE_ALL_FLAGS: u16 = 0x000f;

/// Resource manager and operation of a record after which the rest of the segment is empty.
const SWITCH: (u8, u8) = (0, 0x40);

/// What is found next in a stream.
#[derive(Debug)]
pub enum Next<'a> {
    /// A record.
    Record(RawRecord<'a>),
    /// The input is used up.
    More,
    /// Nothing was written from here on.
    End(WalPosition),
}

/// A record's bytes, checked against its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// The version that wrote it.
    pub major: Major,
    /// Where it begins.
    pub start: WalPosition,
    /// Where it ends, rounded up to a multiple of eight; after a switch, the end of the segment.
    pub end: WalPosition,
    /// The record, without page headers.
    pub bytes: &'a [u8],
}

/// Bytes of the log that cannot be what PostgreSQL wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the WAL is damaged at {position}: {what}")]
pub struct Damage {
    /// Where the page or record begins that is damaged.
    pub position: WalPosition,
    /// What does not fit.
    pub what: &'static str,
}

/// What [`WalStream`] must know of the log beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// The version that writes it: each page's header begins with its magic number.
    pub major: Major,
    /// Bytes of a segment; a power of two, at least 1 MiB.
    pub segment_len: u64,
}

/// Finds records in bytes that arrive in order.
#[derive(Debug)]
pub struct WalStream {
    format: LogFormat,
    /// The position of the next byte of input.
    at: WalPosition,
    /// Bytes before this are padding.
    padding_until: WalPosition,
    /// Bytes that still belong to a record which began before the stream did.
    foreign: usize,
    /// Where the record before began; `None` until there was one.
    prev: Option<WalPosition>,
    /// The page header that is being collected; empty inside a page.
    header: Vec<u8>,
    /// The record that is being put together, and where it began.
    partial: Vec<u8>,
    partial_start: WalPosition,
}

/// What one step of [`WalStream::advance`] found: lengths, because slices of the stream cannot be held while it works.
enum Found {
    InChunk(usize),
    Assembled,
    More,
    End,
}

impl WalStream {
    /// A stream whose first byte of input is at `start`, which is the beginning of a record or of a page.
    #[must_use]
    pub fn new(format: LogFormat, start: WalPosition) -> Self {
        Self {
            format,
            at: start,
            padding_until: start,
            foreign: 0,
            prev: None,
            header: Vec::with_capacity(LONG_PAGE_HEADER_LEN),
            partial: Vec::new(),
            partial_start: start,
        }
    }

    /// The position of the next byte that it wants.
    #[must_use]
    pub fn position(&self) -> WalPosition {
        self.at
    }

    /// Takes bytes off the front of `input` up to the end of the next record.
    pub fn next<'a, 'b: 'a>(&'a mut self, input: &mut &'b [u8]) -> Result<Next<'a>, Damage> {
        match self.advance(input)? {
            Found::More => Ok(Next::More),
            Found::End => Ok(Next::End(self.at)),
            Found::InChunk(len) => {
                let (bytes, rest) = input.split_at(len);
                *input = rest;
                let start = self.at;
                self.at = start.after(len);
                let end = self.finish(start, bytes)?;
                Ok(Next::Record(RawRecord { major: self.format.major, start, end, bytes }))
            }
            Found::Assembled => {
                let start = self.partial_start;
                let bytes = std::mem::take(&mut self.partial);
                let end = self.finish(start, &bytes);
                self.partial = bytes;
                let end = end?;
                Ok(Next::Record(RawRecord { major: self.format.major, start, end, bytes: &self.partial }))
            }
        }
    }

    /// Checks a whole record and moves behind it. Returns its end.
    fn finish(&mut self, start: WalPosition, bytes: &[u8]) -> Result<WalPosition, Damage> {
        check_crc(start, bytes)?;
        self.prev = Some(start);
        let end = WalPosition(align8(self.at.0 as usize) as u64);
        self.padding_until = end;
        if (bytes[17], bytes[16] & 0xf0) == SWITCH {
            let segment = self.format.segment_len;
            self.padding_until = WalPosition(end.0.div_ceil(segment) * segment);
        }
        Ok(self.padding_until)
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Found, Damage> {
        if self.partial_is_done() {
            self.partial.clear();
        }
        loop {
            if self.at < self.padding_until {
                let padding = (self.padding_until.0 - self.at.0) as usize;
                self.take(input, padding);
                if self.at < self.padding_until {
                    return Ok(Found::More);
                }
            }
            if self.at.page_offset() == 0 || !self.header.is_empty() {
                match self.page_header(input)? {
                    Some(done) => return Ok(done),
                    None => continue,
                }
            }
            let in_page = BLOCK_LEN - self.at.page_offset();
            if self.foreign > 0 {
                let taken = self.take(input, self.foreign.min(in_page)).len();
                self.foreign -= taken;
                if self.foreign == 0 {
                    self.padding_until = WalPosition(align8(self.at.0 as usize) as u64);
                } else if input.is_empty() {
                    return Ok(Found::More);
                }
                continue;
            }
            if let Some(found) = self.record_bytes(input, in_page)? {
                return Ok(found);
            }
        }
    }

    /// Takes what this page and the input hold of the record at hand; `None` when the page ended before the record.
    fn record_bytes(&mut self, input: &mut &[u8], in_page: usize) -> Result<Option<Found>, Damage> {
        if self.partial.is_empty() {
            self.partial_start = self.at;
            if let Some(len) = u32_at(input, 0) {
                if len == 0 {
                    return Ok(Some(Found::End));
                }
                let len = len as usize;
                if len <= in_page && len <= input.len() {
                    self.check_header(self.at, &input[..len])?;
                    return Ok(Some(Found::InChunk(len)));
                }
            }
        }
        let wanted = self.partial_wants() - self.partial.len();
        let taken = self.take(input, wanted.min(in_page));
        self.partial.extend_from_slice(taken);
        if self.partial.len() == 4 && self.partial == [0; 4] {
            return Ok(Some(Found::End));
        }
        if self.partial_is_done() {
            self.check_header(self.partial_start, &self.partial)?;
            return Ok(Some(Found::Assembled));
        }
        let page_ended = self.at.page_offset() == 0;
        Ok(if input.is_empty() && !page_ended { Some(Found::More) } else { None })
    }

    /// How long the partial record must become before it says more: first its length, then all of it.
    fn partial_wants(&self) -> usize {
        u32_at(&self.partial, 0).map_or(4, |len| (len as usize).max(RECORD_HEADER_LEN))
    }

    fn partial_is_done(&self) -> bool {
        self.partial.len() >= RECORD_HEADER_LEN && self.partial.len() == self.partial_wants()
    }

    fn take<'a>(&mut self, input: &mut &'a [u8], len: usize) -> &'a [u8] {
        let (taken, rest) = input.split_at(len.min(input.len()));
        *input = rest;
        self.at = self.at.after(taken.len());
        taken
    }

    /// Collects a page header and checks it. `None` when it is done.
    fn page_header(&mut self, input: &mut &[u8]) -> Result<Option<Found>, Damage> {
        let page = WalPosition(self.at.0 - self.header.len() as u64);
        let long = page.0.is_multiple_of(self.format.segment_len);
        let len = if long { LONG_PAGE_HEADER_LEN } else { SHORT_PAGE_HEADER_LEN };
        let taken = self.take(input, len - self.header.len());
        self.header.extend_from_slice(taken);
        if self.header.len() < len {
            return Ok(Some(Found::More));
        }
        if self.header.iter().all(|&byte| byte == 0) {
            self.at = page;
            return Ok(Some(Found::End));
        }
        let checked = self.check_page_header(page, long);
        self.header.clear();
        checked.map(|()| None)
    }

    /// Follows `XLogReaderValidatePageHeader` and `XLogDecodeNextRecord` in `access/transam/xlogreader.c`.
    fn check_page_header(&mut self, page: WalPosition, long: bool) -> Result<(), Damage> {
        let damage = |what| Err(Damage { position: page, what });
        let header = &self.header[..];
        let field = |at| u16_at(header, at).unwrap_or_default();
        let flags = field(2);
        if field(0) != self.format.major.page_magic() {
            return damage("the page's magic is not that of this version");
        }
        if flags & !PAGE_ALL_FLAGS != 0 || long != (flags & PAGE_LONG_HEADER != 0) {
            return damage("the page header's flags do not fit its place");
        }
        if u64_at(header, 8) != Some(page.0) {
            return damage("the page says that it is another");
        }
        if long && u32_at(header, 32).map(u64::from) != Some(self.format.segment_len) {
            return damage("the segment size is another");
        }
        let rest = u32_at(header, 16).unwrap_or_default() as usize;
        if flags & PAGE_OVERWRITES_RECORD != 0 {
            // What a crash cut off was given up; a new record begins here.
            self.partial.clear();
            self.foreign = 0;
            return Ok(());
        }
        let continues = flags & PAGE_CONTINUES_RECORD != 0;
        let missing = match (self.partial.len(), self.foreign) {
            (0, 0) if continues && self.prev.is_none() => {
                self.foreign = rest;
                return Ok(());
            }
            (0, foreign) => foreign,
            (4.., _) => self.partial_wants() - self.partial.len(),
            (_, _) => return damage("a record's length crosses a page"),
        };
        if continues != (missing > 0) || rest != missing {
            return damage("the page continues another record");
        }
        Ok(())
    }

    /// Follows `ValidXLogRecordHeader` in `access/transam/xlogreader.c`.
    fn check_header(&self, start: WalPosition, bytes: &[u8]) -> Result<(), Damage> {
        let damage = |what| Err(Damage { position: start, what });
        let Some(prev) = u64_at(bytes, 8) else { return damage("the record is shorter than its header") };
        if bytes.len() < RECORD_HEADER_LEN || u32_at(bytes, 0) != Some(bytes.len() as u32) {
            return damage("the record is shorter than its header");
        }
        let linked = match self.prev {
            Some(expected) => prev == expected.0,
            None => prev < start.0,
        };
        if linked { Ok(()) } else { damage("its link to the record before points elsewhere") }
    }
}

/// Follows `ValidXLogRecord` in `access/transam/xlogreader.c`: CRC-32C of what follows the header, then of the header
/// up to the checksum.
fn check_crc(start: WalPosition, bytes: &[u8]) -> Result<(), Damage> {
    if crc_of(bytes) == u32_at(bytes, 20).unwrap_or_default() {
        Ok(())
    } else {
        Err(Damage { position: start, what: "its checksum is wrong" })
    }
}

/// The checksum of a record of at least [`RECORD_HEADER_LEN`] bytes.
#[must_use]
pub fn crc_of(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[RECORD_HEADER_LEN..]), &bytes[..20])
}
