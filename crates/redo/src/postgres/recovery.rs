//! Records that a server writes when it has recovered: that another timeline begins, or that a record was given up
//! which a crash had cut off. Ported from `xl_end_of_recovery` and `xl_overwrite_contrecord` in
//! `src/include/access/xlog_internal.h`, and `xlog_redo` in `access/transam/xlog.c`.

use super::decode::record::Record;
use super::error::Underivable;
use super::manager;
use super::position::WalPosition;

const END_OF_RECOVERY: u8 = 0x90;
const OVERWRITE_CONTRECORD: u8 = 0xd0;

/// What such a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// A standby was promoted. Transactions that ran have ended with it, without a record of theirs.
    Promoted {
        /// The timeline that begins.
        timeline: u32,
        /// The one that it leaves.
        previous_timeline: u32,
    },
    /// The record that began there has no end.
    GivenUp(WalPosition),
}

impl Recovered {
    /// Reads a record; `None` if it is neither.
    pub fn of(record: &Record<'_>) -> Result<Option<Self>, Underivable> {
        let mut main = record.fields();
        match (record.manager, record.operation()) {
            (manager::XLOG, END_OF_RECOVERY) => {
                main.skip(8)?;
                Ok(Some(Self::Promoted { timeline: main.u32()?, previous_timeline: main.u32()? }))
            }
            (manager::XLOG, OVERWRITE_CONTRECORD) => Ok(Some(Self::GivenUp(WalPosition(main.u64()?)))),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::decode::build::{Content, raw};
    use crate::postgres::decode::record::decode;

    fn read(info: u8, main: Vec<u8>) -> Result<Option<Recovered>, Underivable> {
        let content = Content { xid: 0, manager: manager::XLOG, info, blocks: vec![], main };
        let bytes = content.record(WalPosition(64));
        let mut references = Vec::new();
        let record = decode(raw(&bytes), &mut references).unwrap();
        Recovered::of(&record)
    }

    #[test]
    fn both_records_are_read_and_others_are_not() {
        let promoted = [[9; 8], [2, 0, 0, 0, 1, 0, 0, 0]].concat();
        let expected = Recovered::Promoted { timeline: 2, previous_timeline: 1 };
        assert_eq!(read(END_OF_RECOVERY, promoted), Ok(Some(expected)));
        let given_up = [[0xd8, 1, 0, 2, 0, 0, 0, 0], [9; 8]].concat();
        let expected = Recovered::GivenUp(WalPosition(0x0200_01d8));
        assert_eq!(read(OVERWRITE_CONTRECORD, given_up), Ok(Some(expected)));
        assert_eq!(read(0x20, vec![1, 2, 3]), Ok(None));
        assert_eq!(read(END_OF_RECOVERY, vec![1, 2, 3]), Err(Underivable::ShortRecord));
    }
}
