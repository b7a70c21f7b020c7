//! A disk drive with a volatile write cache: what was not flushed is lost with the power, in part and in any order.
//!
//! A file system's own loss of power (see [`super::power`]) loses what is in the kernel's memory, and that only. What was
//! written past the page cache without a flush is on the device by then, and on a real one still in the drive's cache.
//! So each storage node's image is served by a drive of its own, a FUSE file system with one file:
//!
//! ```text
//! ext4 ── loop device ──FUSE── Drive ── cache    writes, until a flush (or until there are too many)
//!                                └───── image    what is on the platter
//! ```
//! The drive lives in a thread of this process; when the process is killed, every request that waits and every later one
//! fails, and the next run removes what is left. What the image holds is as durable as the host: it is never synced.

mod cache;
mod serve;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::Mutex;

pub use cache::Loss;
pub use serve::{FILE, serve};

use crate::seed::Numbers;
use cache::{Run, WriteCache};

/// How much a drive takes before it puts the oldest of it on the platter, in bytes.
const CACHE_BYTES: usize = 32 << 20;

/// A drive over an image.
#[derive(Debug)]
pub struct Drive {
    image: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cache: WriteCache,
    has_power: bool,
}

impl Drive {
    /// A drive, switched on, whose platter is this image.
    pub fn over(image: &Path) -> io::Result<Drive> {
        let image = OpenOptions::new().read(true).write(true).open(image)?;
        let state = State { cache: WriteCache::bounded(CACHE_BYTES), has_power: true };
        Ok(Drive { image, state: Mutex::new(state) })
    }

    /// Cuts the power: from now on every request fails, and of what was not flushed a part is on the platter.
    pub fn cut_power(&self, numbers: &mut Numbers) -> io::Result<Loss> {
        let mut state = self.state.lock();
        state.has_power = false;
        let (reached, loss) = state.cache.lose(numbers);
        self.put(&reached)?;
        Ok(loss)
    }

    /// Gives power again.
    pub fn restore_power(&self) {
        self.state.lock().has_power = true;
    }

    /// Its size in bytes.
    fn length(&self) -> io::Result<u64> {
        Ok(self.image.metadata()?.len())
    }

    /// Reads what there is, as far as the end.
    fn read(&self, place: u64, len: usize) -> io::Result<Vec<u8>> {
        let len = len.min(self.length()?.saturating_sub(place) as usize);
        if !cache::is_whole(place, len) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let state = self.state.lock();
        state.check_power()?;
        let mut bytes = vec![0; len];
        self.image.read_exact_at(&mut bytes, place)?;
        state.cache.overlay(place, &mut bytes);
        Ok(bytes)
    }

    /// Takes whole sectors into the cache.
    fn write(&self, place: u64, bytes: &[u8]) -> io::Result<()> {
        let fits = place
            .checked_add(bytes.len() as u64)
            .is_some_and(|end| self.length().is_ok_and(|len| end <= len));
        if !fits || !cache::is_whole(place, bytes.len()) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut state = self.state.lock();
        state.check_power()?;
        state.cache.write(place, bytes);
        let excess = state.cache.excess();
        self.put(&excess)
    }

    /// Puts everything on the platter.
    fn flush(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_power()?;
        let all = state.cache.flush();
        self.put(&all)
    }

    fn put(&self, runs: &[Run]) -> io::Result<()> {
        runs.iter().try_for_each(|run| self.image.write_all_at(&run.bytes, run.place))
    }
}

impl State {
    fn check_power(&self) -> io::Result<()> {
        if self.has_power { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EIO)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive() -> (tempfile::NamedTempFile, Drive) {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(1 << 20).unwrap();
        let drive = Drive::over(image.path()).unwrap();
        (image, drive)
    }

    #[test]
    fn only_a_flush_puts_what_was_written_on_the_platter() {
        let (image, drive) = drive();
        drive.write(4096, &[7; 1024]).unwrap();
        assert_eq!(drive.read(4096, 1024).unwrap(), [7; 1024]);
        assert!(std::fs::read(image.path()).unwrap().iter().all(|byte| *byte == 0));
        drive.flush().unwrap();
        assert_eq!(std::fs::read(image.path()).unwrap()[4096..5120], [7; 1024]);
    }

    #[test]
    fn without_power_every_request_fails_and_with_it_the_flushed_part_is_there() {
        let (_image, drive) = drive();
        drive.write(0, &[7; 4096]).unwrap();
        drive.flush().unwrap();
        drive.write(4096, &[8; 64 << 10]).unwrap();
        let loss = drive.cut_power(&mut Numbers::from_seed(3)).unwrap();
        assert_eq!(loss.unflushed, 128);
        for failed in [drive.read(0, 512).map(drop), drive.write(0, &[9; 512]), drive.flush()] {
            assert_eq!(failed.unwrap_err().raw_os_error(), Some(libc::EIO));
        }
        drive.restore_power();
        assert_eq!(drive.read(0, 4096).unwrap(), [7; 4096]);
        let lost = drive.read(4096, 64 << 10).unwrap().chunks(512).filter(|sector| sector[0] == 0).count();
        assert_eq!(lost as u64, loss.lost);
    }

    #[test]
    fn what_is_no_sector_or_beyond_the_end_is_refused() {
        let (_image, drive) = drive();
        for (place, len) in [(1, 512), (0, 511), (1 << 20, 512), (u64::MAX - 511, 512)] {
            assert!(drive.write(place, &vec![1; len]).is_err(), "{len} bytes at {place}");
        }
        assert_eq!(drive.read((1 << 20) - 512, 4096).unwrap().len(), 512);
        assert!(drive.read(1 << 20, 4096).unwrap().is_empty());
    }
}
