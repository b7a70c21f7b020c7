//! How far logical replication has come from each origin. Ported from `src/backend/replication/logical/origin.c`.

use std::collections::BTreeMap;

use super::decode::record::Record;
use super::error::Underivable;
use super::manager;
use super::xact::{self, Xact};

const SET: u8 = 0x00;
const DROP: u8 = 0x10;
const MAGIC: u32 = 0x1257_dade;

/// The position up to which each origin's changes are here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    remote: BTreeMap<u16, u64>,
}

impl Origins {
    /// The origins that a file names. Follows `StartupReplicationOrigin`; a file of another form names none.
    #[must_use]
    pub fn read(file: &[u8]) -> Self {
        let entries = file.get(4..file.len().saturating_sub(4)).unwrap_or_default();
        let number = |entry: &[u8], at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&entry[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let remote =
            entries.chunks_exact(16).map(|entry| (number(entry, 0) as u16, number(entry, 8))).collect();
        Self { remote }
    }

    /// Follows a record: `replorigin_redo`, and `replorigin_advance` at the end of a transaction from elsewhere.
    pub fn observe(&mut self, record: &Record<'_>) -> Result<(), Underivable> {
        let mut main = record.fields();
        match (record.manager, record.operation()) {
            (manager::REPLORIGIN, SET) => {
                let (position, node, force) = (main.u64()?, main.u16()?, main.u8()? != 0);
                self.advance(node, position, force);
            }
            (manager::REPLORIGIN, DROP) => {
                self.remote.remove(&main.u16()?);
            }
            (manager::REPLORIGIN, operation) => {
                return Err(Underivable::UnknownRecord { manager: record.manager, operation });
            }
            (manager::XACT, _) => {
                if let (Xact::End(end), Some(node)) = (xact::read(record)?, record.origin)
                    && let Some((position, _)) = end.origin
                {
                    self.advance(node, position, false);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn advance(&mut self, node: u16, position: u64, back_too: bool) {
        let now = self.remote.entry(node).or_default();
        if back_too || *now < position {
            *now = position;
        }
    }

    /// The file `pg_logical/replorigin_checkpoint`. Follows `CheckPointReplicationOrigin`.
    #[must_use]
    pub fn file(&self) -> Vec<u8> {
        let mut file = MAGIC.to_le_bytes().to_vec();
        for (&node, position) in &self.remote {
            file.extend_from_slice(&u64::from(node).to_le_bytes());
            file.extend_from_slice(&position.to_le_bytes());
        }
        let crc = crc32c::crc32c(&file);
        file.extend_from_slice(&crc.to_le_bytes());
        file
    }
}
