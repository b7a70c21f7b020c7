//! Every position by name, and the inequality chain that must hold between them (`docs/POSITIONS.md`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Lsn;

/// The positions of one volume, as its writer knows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumePositions {
    /// Below it the log itself is gone from the segments; only layers remain.
    pub trim: Lsn,
    /// Up to here the backup store has everything; `None` while there is no backup.
    pub archived: Option<Lsn>,
    /// Reads below it are refused.
    pub gc: Lsn,
    /// The lowest position that a reader, the window or a hold still needs.
    pub needed: Lsn,
    /// Volume durable LSN: the highest consistency point at or below VCL. What commit means.
    pub vdl: Lsn,
    /// Volume complete LSN: everything at or below it is on a write quorum.
    pub vcl: Lsn,
    /// The end of the last record that the writer has handed out.
    pub allocated: Lsn,
    /// How far `allocated` may run ahead of VDL, in bytes.
    pub allocation_limit: u64,
}

/// The positions of one page segment (a replica of a protection group).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentPositions {
    /// Up to here versions are in layers on disk.
    pub persisted: Lsn,
    /// Up to here versions can be read.
    pub applied: Lsn,
    /// Segment complete LSN: this replica has every record of the log up to here.
    pub scl: Lsn,
    /// The highest VDL that the writer has told this segment.
    pub told_vdl: Lsn,
}

/// A pair of positions that stands in the wrong order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct OutOfOrder {
    /// The name of the position that must not be the greater one.
    pub lower: &'static str,
    /// Its value.
    pub lower_at: Lsn,
    /// The name of the position that must not be the smaller one.
    pub upper: &'static str,
    /// Its value.
    pub upper_at: Lsn,
}

impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} is above {} = {}", self.lower, self.lower_at, self.upper, self.upper_at)
    }
}

fn in_order(lower: (&'static str, Lsn), upper: (&'static str, Lsn)) -> Result<(), OutOfOrder> {
    if lower.1 <= upper.1 {
        return Ok(());
    }
    Err(OutOfOrder { lower: lower.0, lower_at: lower.1, upper: upper.0, upper_at: upper.1 })
}

impl VolumePositions {
    /// Executes the chain of `docs/POSITIONS.md` for a volume.
    pub fn validate(&self) -> Result<(), OutOfOrder> {
        if let Some(archived) = self.archived {
            in_order(("trim", self.trim), ("archived", archived))?;
            in_order(("archived", archived), ("vdl", self.vdl))?;
        }
        in_order(("trim", self.trim), ("vdl", self.vdl))?;
        in_order(("gc", self.gc), ("needed", self.needed))?;
        in_order(("needed", self.needed), ("vdl", self.vdl))?;
        in_order(("vdl", self.vdl), ("vcl", self.vcl))?;
        in_order(("vcl", self.vcl), ("allocated", self.allocated))?;
        let limit = self.vdl.plus(self.allocation_limit);
        in_order(("allocated", self.allocated), ("vdl + allocation limit", limit))
    }
}

impl SegmentPositions {
    /// Executes the chain of `docs/POSITIONS.md` for a page segment: `persisted <= applied <= min(SCL, told VDL)`.
    pub fn validate(&self) -> Result<(), OutOfOrder> {
        in_order(("persisted", self.persisted), ("applied", self.applied))?;
        in_order(("applied", self.applied), ("scl", self.scl))?;
        in_order(("applied", self.applied), ("told vdl", self.told_vdl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_the_pair_that_breaks_it() {
        let good = VolumePositions {
            trim: Lsn(1),
            archived: Some(Lsn(2)),
            gc: Lsn(2),
            needed: Lsn(3),
            vdl: Lsn(4),
            vcl: Lsn(5),
            allocated: Lsn(6),
            allocation_limit: 2,
        };
        assert_eq!(good.validate(), Ok(()));
        let broken = |change: fn(&mut VolumePositions)| {
            let mut positions = good;
            change(&mut positions);
            positions.validate().unwrap_err().lower
        };
        assert_eq!(broken(|p| p.trim = Lsn(3)), "trim");
        assert_eq!(broken(|p| p.archived = Some(Lsn(5))), "archived");
        assert_eq!(broken(|p| p.gc = Lsn(4)), "gc");
        assert_eq!(broken(|p| p.needed = Lsn(5)), "needed");
        assert_eq!(broken(|p| p.vdl = Lsn(6)), "vdl");
        assert_eq!(broken(|p| p.vcl = Lsn(7)), "vcl");
        assert_eq!(broken(|p| p.allocated = Lsn(7)), "allocated");
    }

    #[test]
    fn a_segment_never_holds_what_it_was_not_told_durable() {
        let segment = SegmentPositions { persisted: Lsn(1), applied: Lsn(5), scl: Lsn(9), told_vdl: Lsn(4) };
        assert_eq!(segment.validate().unwrap_err().upper, "told vdl");
    }
}
