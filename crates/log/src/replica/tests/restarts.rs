use zorya_types::Lsn;
use zorya_wire::message::log::{Fetch, LeaseHeld};

use super::*;
use crate::testkit::Tape;

#[test]
fn a_restart_keeps_what_was_durable_and_nothing_else() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append_told(1, 1, tape.batch(100), vdl(0)).append_told(1, 2, tape.batch(100), vdl(1_100)).sync();
    bench.append(1, 3, tape.batch(100)).restart(Tail::Clean, 0);
    assert_eq!((bench.replica.scl(), bench.replica.promised()), (Lsn(1_200), Epoch(1)));
    bench.step(Input::Tick);
    assert_eq!(bench.delivered(), None, "what was told is on disk with the next batch only");
    bench.append_told(1, 4, Bytes::new(), vdl(1_200));
    assert_eq!(bench.delivered(), Some(1_200));
}

#[test]
fn a_restart_goes_on_after_what_is_in_layers() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.record(100, true).record(50, false).record(50, true).take()).sync();
    bench.restart(Tail::Clean, 1_100);
    bench.append_told(1, 2, Bytes::new(), vdl(1_200));
    assert!(bench.effects.contains(&Effect::Deliver { pieces: vec![(2, 100, 100)], upto: Lsn(1_200) }));
}

/// Pages are in layers up to a cut, which is a multiple of LSN and not where a record ends. A replica that took the cut
/// for the end of a record found nothing that follows it, and forgot everything acknowledged above.
#[test]
fn a_restart_goes_on_after_layers_that_were_cut_inside_a_record() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.record(100, true).record(100, true).record(50, true).take()).sync();
    bench.restart(Tail::Clean, 1_130);
    assert_eq!(bench.replica.scl(), Lsn(1_250));
    bench.append_told(1, 2, Bytes::new(), vdl(1_250));
    assert!(bench.effects.contains(&Effect::Deliver { pieces: vec![(2, 100, 150)], upto: Lsn(1_250) }));
    let fetch = Fetch { slot: peer(1), truncation: Epoch(1), have: Lsn(1_130), max_bytes: 1 };
    bench.request(3, fetch, Bytes::new());
    assert!(
        bench
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Serve { pieces, .. } if pieces == &[(2, 100, 100)]))
    );
}

/// A node that moved old entries to its log's head read an old truncation after the newest one at its restart, took it
/// for its own, and refused its peers' ever after: what had been annulled was there again.
#[test]
fn a_restart_keeps_the_newest_truncation_in_whatever_order_the_disk_has_them() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.record(100, true).record(100, true).take()).sync();
    bench.accept(2, truncation(&[(1, 0, 1_000), (2, 1_100, 2_100)])).sync();
    let (_, old) = bench.disk[0].clone();
    assert!(matches!(&old, Entry::Accept { .. }), "{old:?}");
    let seq = bench.disk.last().map_or(0, |(seq, _)| *seq) + 1;
    bench.disk.push((seq, old));
    bench.durable = bench.disk.len();
    bench.restart(Tail::Clean, 0);
    assert_eq!((bench.replica.highest(), bench.replica.promised()), (Lsn(1_100), Epoch(2)));
}

#[test]
fn a_restart_deletes_annulled_records_again() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.record(100, true).record(100, true).take()).sync();
    bench.accept(2, truncation(&[(1, 0, 1_000), (2, 1_100, 2_100)])).sync().restart(Tail::Clean, 0);
    assert_eq!((bench.replica.highest(), bench.replica.promised()), (Lsn(1_100), Epoch(2)));
}

#[test]
fn a_promise_that_was_not_durable_was_not_answered_and_is_forgotten() {
    let mut bench = Bench::opened();
    bench.promise(2, true);
    assert_eq!(bench.promised(), None);
    bench.restart(Tail::Clean, 0);
    assert_eq!(bench.replica.promised(), Epoch(1));
}

#[test]
fn after_a_restart_a_lease_is_assumed() {
    let mut bench = Bench::opened();
    bench.restart(Tail::Clean, 0).now_ms = 60_000;
    bench.step(Input::Tick).now_ms = 61_000;
    bench.promise(2, false);
    assert_eq!(bench.refused(), Some(LeaseHeld { remaining_ms: 1_000 }.into()));
    bench.promise(2, true).sync();
    assert!(bench.promised().is_some());
}

#[test]
fn a_snapshot_stands_for_the_entries_before_it() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append_told(1, 1, tape.batch(100), vdl(0)).promise(7, true).step(Input::Checkpoint).sync();
    bench.disk.retain(|(_, entry)| matches!(entry, Entry::Batch { .. } | Entry::Snapshot(_)));
    bench.durable = bench.disk.len();
    bench.restart(Tail::Clean, 0);
    assert_eq!((bench.replica.scl(), bench.replica.promised()), (Lsn(1_100), Epoch(7)));
    assert_eq!(bench.replica.truncation(), Some(&truncation(&[(1, 0, 1_000)])));
}

#[test]
fn a_damaged_replica_acknowledges_nothing_until_an_opening_repaired_it() {
    let mut bench = Bench::opened();
    bench.restart(Tail::Damaged, 0);
    bench.append(1, 1, Bytes::new()).sync();
    assert_eq!(bench.acked(), None);
    bench.restart(Tail::Clean, 0);
    assert_eq!(bench.replica.tail(), Tail::Damaged, "another start does not heal it");
    bench.accept(2, truncation(&[(2, 0, 2_000)])).sync().effects.clear();
    assert_eq!(bench.replica.tail(), Tail::Clean);
    bench.append(2, 2, Bytes::new());
    assert_eq!(bench.acked(), Some((2, 0)));
}

#[test]
fn a_torn_tail_is_outgrown() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.restart(Tail::Torn, 0);
    bench.append_told(1, 1, tape.batch(900), vdl(0)).append_told(1, 2, tape.batch(200), vdl(1_900)).sync();
    assert_eq!(bench.replica.tail(), Tail::Torn, "the first record after the start says where VDL was");
    bench.append_told(1, 3, Bytes::new(), vdl(2_100));
    assert_eq!(bench.replica.tail(), Tail::Clean, "VDL has passed all that could have been placed before");
}

#[test]
fn entries_read_back_and_have_these_kinds() {
    let told = Told { vdl: Lsn(3), gc: Lsn(2), trim: Lsn(1) };
    let entries = [
        Entry::Batch { records: Bytes::from_static(b"records"), told },
        Entry::Promise { epoch: Epoch(4) },
        Entry::Accept { truncation: truncation(&[(1, 0, 1_000)]) },
        Entry::Told { told },
        Entry::Vouch { tail: Tail::Torn },
        Entry::Snapshot(super::super::HardState { told, stamp_us: 9, ..Default::default() }),
    ];
    for (index, entry) in entries.iter().enumerate() {
        let (kind, payload) = entry.encode();
        assert_eq!(usize::from(kind), index + 1);
        assert_eq!(&Entry::decode(kind, payload.clone()).unwrap(), entry);
        assert!(Entry::decode(kind, payload.slice(..payload.len().min(7).saturating_sub(1))).is_err());
    }
    let hex = |entry: &Entry| entry.encode().1.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&entries[1]), "0400000000000000");
    assert_eq!(hex(&entries[3]), "030000000000000002000000000000000100000000000000");
    assert_eq!(&hex(&entries[0])[48..], "7265636f726473");
    let accept = "01000000010000000000000000000000000000 00e803000000000000".replace(' ', "");
    assert_eq!(hex(&entries[2]), accept);
    let snapshot = format!("{}00{}00{}", "0".repeat(16), hex(&entries[3]), "0900000000000000");
    assert_eq!(hex(&entries[5]), snapshot);
    assert!(Entry::decode(99, Bytes::new()).is_err());
}
