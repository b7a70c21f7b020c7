//! Reading entries back, from memory or from their file.

use std::sync::Arc;

use bytes::Bytes;

use super::disk::DiskFile;
use super::frame::{Class, FRAME_HEADER_LEN, FrameHeader};
use super::header::HEADER_BLOCK;
use super::{Found, NodeLog, Position, ReadError};

/// A file, and where in it an entry should be.
struct Place {
    file: Arc<dyn DiskFile>,
    offset: u64,
    room: u64,
}

impl NodeLog {
    /// The entry at `position`, also before it is durable. Checksums are verified.
    pub fn read(&self, position: Position) -> Result<Found, ReadError> {
        if let Some(found) = self.in_memory(position) {
            return Ok(found);
        }
        let (place, header) = self.on_disk(position)?;
        let payload = place.payload(position, 0, header.payload_len)?;
        if crc32c::crc32c(&payload) != header.payload_checksum {
            return Err(self.missing(position));
        }
        Ok(Found { position, volume: header.volume, kind: header.kind, payload })
    }

    /// `take` bytes of the payload of the entry at `position`, after its first `skip`. Only the frame's header is
    /// verified: what is a part of a payload has to carry its own checksum.
    pub fn read_range(&self, position: Position, skip: u32, take: u32) -> Result<Bytes, ReadError> {
        let check = |len: u32| match skip.checked_add(take) {
            Some(end) if end <= len => Ok(()),
            _ => Err(ReadError::OutOfRange { position, len, skip, take }),
        };
        if let Some(found) = self.in_memory(position) {
            check(found.payload.len() as u32)?;
            return Ok(found.payload.slice(skip as usize..(skip + take) as usize));
        }
        let (place, header) = self.on_disk(position)?;
        check(header.payload_len)?;
        place.payload(position, skip, take)
    }

    fn in_memory(&self, position: Position) -> Option<Found> {
        let state = self.shared.state.lock();
        let entry = state.queue.get(position.0)?;
        Some(Found { position, volume: entry.volume, kind: entry.kind, payload: entry.payload.clone() })
    }

    fn on_disk(&self, position: Position) -> Result<(Place, FrameHeader), ReadError> {
        let place = self.place(position).ok_or(ReadError::NotThere(position))?;
        let mut bytes = [0; FRAME_HEADER_LEN];
        let read = place.file.read_at(place.offset, &mut bytes);
        read.map_err(|source| ReadError::Io { position, source })?;
        match FrameHeader::decode(&bytes, self.shared.incarnation, position.0) {
            Some(header) if header.class == Class::Entry && header.end() - position.0 <= place.room => {
                Ok((place, header))
            }
            _ => Err(self.missing(position)),
        }
    }

    /// Why an entry is not where it should be: a file that was released meanwhile may hold anything.
    fn missing(&self, position: Position) -> ReadError {
        match self.place(position) {
            Some(_) => ReadError::Damaged(position),
            None => ReadError::NotThere(position),
        }
    }

    fn place(&self, position: Position) -> Option<Place> {
        let state = self.shared.state.lock();
        let files = &state.files;
        let file = files.get(files.partition_point(|file| file.end() <= position.0))?;
        let in_frames = position.0 >= file.first + HEADER_BLOCK && position.0 < state.queue.next();
        let room = file.end() - position.0.min(file.end());
        (in_frames && room >= FRAME_HEADER_LEN as u64).then(|| Place {
            file: file.file.clone(),
            offset: position.0 - file.first,
            room,
        })
    }
}

impl Place {
    fn payload(&self, position: Position, skip: u32, take: u32) -> Result<Bytes, ReadError> {
        let mut bytes = vec![0; take as usize];
        let offset = self.offset + FRAME_HEADER_LEN as u64 + u64::from(skip);
        self.file.read_at(offset, &mut bytes).map_err(|source| ReadError::Io { position, source })?;
        Ok(Bytes::from(bytes))
    }
}
