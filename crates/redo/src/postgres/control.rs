//! The control file (`ControlFileData` in `catalog/pg_control.h`). Its fields lie at the same places from 13 to 17.

use super::checkpoint::{CHECKPOINT_LEN, Checkpoint};
use super::error::Underivable;
use super::fields::{Fields, u32_at, u64_at};
use super::major::Major;
use super::position::WalPosition;

/// What differs by version: `PG_CONTROL_VERSION`.
#[must_use]
pub const fn version(major: Major) -> u32 {
    match major {
        Major::V14 | Major::V15 | Major::V16 => 1300,
        Major::V17 => 1700,
        Major::V18 => 1800,
    }
}

/// Bytes of the file.
pub const FILE_LEN: usize = 8192;

const AT_SYSTEM: usize = 0;
const AT_VERSION: usize = 8;
const AT_CATALOG: usize = 12;
const AT_STATE: usize = 16;
const AT_TIME: usize = 24;
const AT_CHECKPOINT: usize = 32;
const AT_CHECKPOINT_COPY: usize = 40;
const AT_UNLOGGED: usize = 128;
const AT_MIN_RECOVERY: usize = 136;
/// From the end of a recovery that must be reached to whether a backup must end: nothing of that here.
const RECOVERY_LEN: usize = 33;
const AT_WAL_LEVEL: usize = 172;
const AT_HINTS_LOGGED: usize = 176;
const AT_COMMIT_TIMES: usize = 200;
const AT_CHECKSUMS: usize = 252;
const AT_CRC: usize = 288;

/// `FirstNormalUnloggedLSN`: stand-ins for positions of unlogged relations begin anew after a crash.
const FIRST_UNLOGGED: u64 = 1000;
/// `DB_IN_PRODUCTION`.
const IN_PRODUCTION: u32 = 6;

/// A control file whose checksum is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFile(Vec<u8>);

impl ControlFile {
    /// Reads the file of a server of that version.
    pub fn read(major: Major, bytes: &[u8]) -> Result<Self, Underivable> {
        major.check_written()?;
        let found = u32_at(bytes, AT_VERSION).ok_or(Underivable::ShortRecord)?;
        let crc = u32_at(bytes, AT_CRC).ok_or(Underivable::ShortRecord)?;
        if found != version(major) {
            return Err(Underivable::BadRecord("the control file is of another version"));
        }
        if crc != crc32c::crc32c(&bytes[..AT_CRC]) {
            return Err(Underivable::BadRecord("the control file's checksum is wrong"));
        }
        let mut bytes = bytes.to_vec();
        bytes.resize(FILE_LEN, 0);
        Ok(Self(bytes))
    }

    /// The cluster's identity.
    #[must_use]
    pub fn system_identifier(&self) -> u64 {
        u64_at(&self.0, AT_SYSTEM).unwrap_or_default()
    }

    /// The version of the catalogs, which names directories in tablespaces.
    #[must_use]
    pub fn catalog_version(&self) -> u32 {
        u32_at(&self.0, AT_CATALOG).unwrap_or_default()
    }

    /// The last checkpoint's record.
    #[must_use]
    pub fn checkpoint_position(&self) -> WalPosition {
        WalPosition(u64_at(&self.0, AT_CHECKPOINT).unwrap_or_default())
    }

    /// The last checkpoint.
    pub fn checkpoint(&self) -> Result<Checkpoint, Underivable> {
        Checkpoint::read(Fields(&self.0[AT_CHECKPOINT_COPY..]).bytes(CHECKPOINT_LEN)?)
    }

    /// What a checkpoint says of `wal_level`: nothing until 16.
    #[must_use]
    pub fn wal_level_of_checkpoints(&self) -> u32 {
        let since = version(Major::V17);
        let says = u32_at(&self.0, AT_VERSION).is_some_and(|version| version >= since);
        if says { u32_at(&self.0, AT_WAL_LEVEL).unwrap_or_default() } else { 0 }
    }

    /// Whether changes of hint bits are logged.
    #[must_use]
    pub fn hints_logged(&self) -> bool {
        self.0[AT_HINTS_LOGGED] != 0 || self.has_checksums()
    }

    /// Whether data pages have checksums.
    #[must_use]
    pub fn has_checksums(&self) -> bool {
        u32_at(&self.0, AT_CHECKSUMS).unwrap_or_default() != 0
    }

    /// Whether commit times are kept.
    #[must_use]
    pub fn keeps_commit_times(&self) -> bool {
        self.0[AT_COMMIT_TIMES] != 0
    }

    /// Changes what a record of parameters changes. Follows the parameters' part of `xlog_redo`.
    pub fn set_parameters(&mut self, data: &[u8]) -> Result<(), Underivable> {
        let mut data = Fields(data);
        let order: [usize; 5] = [180, 184, 188, 192, 196];
        for at in order {
            self.put(at, data.bytes(4)?);
        }
        self.put(AT_WAL_LEVEL, data.bytes(4)?);
        self.put(AT_HINTS_LOGGED, data.bytes(1)?);
        self.put(AT_COMMIT_TIMES, data.bytes(1)?);
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The file with which a server starts at a checkpoint that nobody wrote: in production, so that it recovers the
    /// nothing after that checkpoint and does what follows a crash (unlogged relations are reset, prepared
    /// transactions taken up).
    #[must_use]
    pub fn starting_at(mut self, position: WalPosition, checkpoint: &Checkpoint) -> Vec<u8> {
        self.put(AT_STATE, &IN_PRODUCTION.to_le_bytes());
        self.put(AT_TIME, &checkpoint.time_s.to_le_bytes());
        self.put(AT_CHECKPOINT, &position.0.to_le_bytes());
        self.put(AT_CHECKPOINT_COPY, &checkpoint.bytes());
        self.put(AT_UNLOGGED, &FIRST_UNLOGGED.to_le_bytes());
        self.put(AT_MIN_RECOVERY, &[0; RECOVERY_LEN]);
        let crc = crc32c::crc32c(&self.0[..AT_CRC]);
        self.put(AT_CRC, &crc.to_le_bytes());
        self.0
    }
}
