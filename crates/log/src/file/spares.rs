//! Files for the log to go on in: written once with zeroes, or recycled, so that a sync never has to allocate.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::names;
use super::recover::LogFile;

/// A file that is ready to be used.
pub(super) struct Spare {
    pub(super) name: String,
    pub(super) len: u64,
    pub(super) file: Arc<dyn DiskFile>,
}

const CHUNK: usize = 1 << 20;
/// Zeroes are synced after so many bytes, so that no other sync has to wait long for them.
const SYNC_BYTES: u64 = 8 << 20;

/// Makes a file of `len` zeroes, if there is room for all of it. `go_on` is asked now and then; when it says no, nothing
/// is left and `None` returned.
pub(super) fn make(
    disk: &dyn Disk,
    number: u64,
    len: u64,
    go_on: &dyn Fn() -> bool,
) -> io::Result<Option<Spare>> {
    // Otherwise the attempt itself would take the room, for as long as it lasts, from those who could make some.
    if disk.free_bytes()? < len {
        let why =
            format!("the disk is full: no room for a file of {} MiB; free some space", len.div_ceil(1 << 20));
        return Err(io::Error::new(io::ErrorKind::StorageFull, why));
    }
    let unfinished = names::unfinished_name(number);
    let made = disk.create(&unfinished).and_then(|file| Ok(zero(&*file, len, go_on)?.then_some(file)));
    match made {
        Ok(Some(file)) => {
            let name = names::spare_name(number);
            disk.rename(&unfinished, &name)?;
            disk.sync_names()?;
            Ok(Some(Spare { name, len, file }))
        }
        Ok(None) => {
            disk.remove(&unfinished)?;
            Ok(None)
        }
        Err(error) => {
            // A half-made file would hold the very room that is missing; the error that counts is the first.
            let _ = disk.remove(&unfinished);
            Err(error)
        }
    }
}

fn zero(file: &dyn DiskFile, len: u64, go_on: &dyn Fn() -> bool) -> io::Result<bool> {
    let zeroes = vec![0; CHUNK];
    let mut offset = 0;
    while offset < len {
        if !go_on() {
            return Ok(false);
        }
        let chunk = (len - offset).min(CHUNK as u64);
        file.write_at(offset, &mut [IoSlice::new(&zeroes[..chunk as usize])])?;
        offset += chunk;
        if offset % SYNC_BYTES == 0 || offset == len {
            file.sync()?;
        }
    }
    Ok(true)
}

/// Makes a released file of the log a spare. Its name is durable before anything is written to it: a power cut must
/// not show the file in its old place with new content.
pub(super) fn recycle(disk: &dyn Disk, released: LogFile, number: u64) -> io::Result<Spare> {
    let name = names::spare_name(number);
    disk.rename(&names::log_name(released.number), &name)?;
    disk.sync_names()?;
    Ok(Spare { name, len: released.len, file: released.file })
}

/// Removes a released file of the log.
pub(super) fn remove(disk: &dyn Disk, released: &LogFile) -> io::Result<()> {
    disk.remove(&names::log_name(released.number))?;
    disk.sync_names()
}

/// The spares that an earlier process left, of length `len`; others are removed. Also the next number for a spare.
pub(super) fn found(disk: &dyn Disk, len: u64, most: usize) -> io::Result<(Vec<Spare>, u64)> {
    let mut spares = Vec::new();
    let mut next = 1;
    for name in disk.names()? {
        if names::is_unfinished(&name) {
            disk.remove(&name)?;
        } else if let Some(number) = names::spare_number(&name) {
            next = next.max(number + 1);
            let file = disk.open(&name)?;
            if file.length()? == len && spares.len() < most {
                spares.push(Spare { name, len, file });
            } else {
                disk.remove(&name)?;
            }
        }
    }
    Ok((spares, next))
}
