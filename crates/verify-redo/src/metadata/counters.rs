//! The counters that are tracked from record to record, against those of checkpoints.

use zorya_redo::postgres::checkpoint::Checkpoint;

use super::Metadata;

/// Identities that the server may have handed out without a record of theirs yet: one a session, and some.
const UNLOGGED_IDS: u32 = 200;
/// Object numbers that a record of them hands out at once (`VAR_OID_PREFETCH`).
const OID_PREFETCH: u32 = 8192;

impl Metadata {
    /// A checkpoint's counters were taken at some time between its redo position and its record.
    pub(super) fn check_counters(
        &mut self,
        checkpoint: &Checkpoint,
        shutdown: bool,
        findings: &mut Vec<String>,
    ) {
        while self.history.len() > 1 && self.history[1].0 < checkpoint.redo {
            self.history.pop_front();
        }
        let (theirs, now) = (checkpoint.counters, self.counters);
        let then = self
            .history
            .front()
            .filter(|(at, _)| *at < checkpoint.redo)
            .map_or(now, |(_, counters)| *counters);
        let slack = if shutdown { 0 } else { UNLOGGED_IDS };
        let mut check = |name: &str, fits: bool| {
            if !fits {
                let kind = if shutdown { "shutdown" } else { "online" };
                findings.push(format!(
                    "{name} of the {kind} checkpoint: {theirs:?}, tracked {then:?} to {now:?}"
                ));
            }
        };
        let least = if shutdown { &now } else { &then };
        let xids = theirs.next_xid.wrapping_sub(least.next_xid);
        check("next_xid", xids <= now.next_xid.wrapping_sub(least.next_xid) + u64::from(slack));
        // These go around their ends.
        let within = |theirs: u32, low: u32, high: u32| {
            u64::from(theirs.wrapping_sub(low)) <= u64::from(high.wrapping_sub(low)) + u64::from(slack)
        };
        check("next_multi", within(theirs.next_multi, least.next_multi, now.next_multi));
        check("next_offset", within(theirs.next_offset, least.next_offset, now.next_offset));
        check(
            "newest_commit_time",
            within(theirs.newest_commit_time, least.newest_commit_time, now.newest_commit_time),
        );
        let oids = if shutdown {
            now.next_oid.wrapping_sub(OID_PREFETCH)..=now.next_oid
        } else {
            least.next_oid..=now.next_oid
        };
        check("next_oid", oids.contains(&theirs.next_oid));
        // The oldest ones move without a record where nothing can be removed; storage's are on the safe side.
        let reaches = |theirs: u32, ours: u32| (theirs.wrapping_sub(ours) as i32) >= 0;
        let oldest_xids = [now.oldest_xid.0, then.oldest_xid.0];
        check("oldest_xid", oldest_xids.iter().any(|&oldest| reaches(theirs.oldest_xid.0, oldest)));
        check("oldest_multi", reaches(theirs.oldest_multi.0, then.oldest_multi.0));
        check("oldest_commit_time", reaches(theirs.oldest_commit_time, then.oldest_commit_time));
        let ours = self.control.wal_level_of_checkpoints();
        // What `pg_resetwal` writes at the beginning contradicts itself; the server that starts puts it right.
        if checkpoint.wal_level != ours && checkpoint.redo != self.begin {
            findings.push(format!("wal_level {} of the checkpoint, tracked {ours}", checkpoint.wal_level));
        }
        if shutdown && !self.running.is_empty() && !self.crashed {
            findings.push(format!("{} transactions run while the server shuts down", self.running.len()));
        }
    }
}
