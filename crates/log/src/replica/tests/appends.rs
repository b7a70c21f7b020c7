use zorya_types::{Incarnation, Lsn};
use zorya_wire::message::log::{Append, Refusal, StaleEpoch, Told};

use super::*;
use crate::testkit::Tape;

#[test]
fn an_append_is_acknowledged_only_when_it_is_on_disk_and_once_for_several() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.batch(100)).append(1, 2, tape.batch(100));
    assert_eq!(bench.acked(), None);
    bench.sync();
    assert_eq!(bench.replies().len(), 1);
    bench.append(1, 3, tape.batch(100)).sync();
    assert_eq!(bench.acked(), Some((3, 1_300)));
}

#[test]
fn a_renewal_is_answered_at_once_with_what_is_on_disk() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.batch(100)).append(1, 2, Bytes::new());
    assert_eq!(bench.acked(), Some((2, 0)));
}

#[test]
fn a_batch_after_a_gap_is_stored_and_counts_when_the_gap_is_filled() {
    let mut tape = Tape::new(1, 0, 1_000);
    let (one, two, three) = (tape.batch(100), tape.batch(100), tape.batch(100));
    let mut bench = Bench::opened();
    bench.append(1, 1, one).append(1, 3, three).sync();
    assert_eq!(bench.acked(), Some((1, 1_100)));
    assert_eq!((bench.replica.scl(), bench.replica.highest()), (Lsn(1_100), Lsn(1_300)));
    bench.append(1, 4, two).sync();
    assert_eq!(bench.acked(), Some((4, 1_300)));
}

#[test]
fn what_is_here_already_is_not_stored_again_and_other_bytes_there_are_refused() {
    let mut tape = Tape::new(1, 0, 1_000);
    let (one, two) = (tape.batch(100), tape.batch(100));
    let mut bench = Bench::opened();
    bench.append(1, 1, one.clone()).append(1, 2, one.clone());
    assert_eq!(bench.disk.len(), 2);
    bench.append(1, 3, [one, two].concat().into());
    assert!(matches!(&bench.disk[2].1, Entry::Batch { records, .. } if records.len() == 100));
    let mut other = Tape::new(1, 0, 1_000);
    other.stamp_us += 1;
    bench.append(1, 4, other.batch(100));
    assert!(matches!(bench.refused(), Some(Refusal::Invalid(_))));
}

#[test]
fn records_that_are_not_what_they_should_be_are_refused() {
    let bad = |make: fn(&mut Tape) -> Bytes| {
        let mut bench = Bench::opened();
        bench.append(1, 1, make(&mut Tape::new(1, 0, 1_000)));
        bench.refused()
    };
    assert!(matches!(bad(|tape| tape.record(100, false).take()), Some(Refusal::Invalid(_))), "no end");
    assert!(matches!(bad(|_| Tape::new(1, 0, 1_001).batch(100)), Some(Refusal::Invalid(_))), "a wrong jump");
    assert!(matches!(bad(|_| Tape::new(1, 500, 500).batch(100)), Some(Refusal::Invalid(_))), "annulled");
    assert!(matches!(bad(|_| Tape::new(2, 0, 1_000).batch(100)), Some(Refusal::Invalid(_))), "another epoch");
    let torn = bad(|tape| tape.batch(100).slice(..99));
    assert!(matches!(torn, Some(Refusal::Invalid(_))), "cut off");
    let gap =
        bad(|tape| [tape.batch(100), tape.take(), Tape::new(1, 1_200, 1_200).batch(100)].concat().into());
    assert!(matches!(gap, Some(Refusal::Invalid(_))), "a gap inside");
}

#[test]
fn an_older_epoch_another_disk_and_a_clock_ahead_are_refused() {
    let mut bench = Bench::opened();
    bench.now_ms = 5_000;
    bench.promise(4, false).sync().effects.clear();
    bench.append(1, 1, Bytes::new());
    assert_eq!(bench.refused(), Some(StaleEpoch { promised: Epoch(4) }.into()));
    let mut bench = Bench::opened();
    let (epoch, told) = (Epoch(1), Told::default());
    bench.request(1, Append { epoch, incarnation: Incarnation(9), told, urgent: true }, Bytes::new());
    assert!(matches!(bench.refused(), Some(Refusal::OtherIncarnation(_))));
    let mut tape = Tape::new(1, 0, 1_000);
    tape.stamp_us += 1_000_001;
    bench.append(1, 1, tape.batch(100));
    assert!(matches!(bench.refused(), Some(Refusal::ClockAhead(ahead)) if ahead.ahead_us == 1_000_001));
    assert_eq!(bench.replica.highest(), Lsn(0));
}

#[test]
fn pages_get_what_is_on_disk_and_told_durable_once_and_in_order() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.batch(100)).append(1, 2, tape.batch(100)).sync();
    assert_eq!(bench.delivered(), None);
    bench.append_told(1, 3, tape.batch(100), vdl(1_100));
    assert!(bench.effects.contains(&Effect::Deliver { pieces: vec![(2, 0, 100)], upto: Lsn(1_100) }));
    bench.effects.clear();
    bench.append_told(1, 4, Bytes::new(), vdl(1_300));
    assert_eq!(bench.delivered(), Some(1_200), "the third is not on disk");
    bench.sync();
    assert_eq!(bench.delivered(), Some(1_300));
    bench.append_told(1, 5, Bytes::new(), vdl(1_200));
    assert_eq!(bench.replica.told().vdl, Lsn(1_300), "what is told never falls");
}

#[test]
fn the_log_is_released_when_it_is_trimmed_and_in_layers_here() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.batch(100)).append(1, 2, tape.batch(100)).sync();
    let told = Told { vdl: Lsn(1_200), gc: Lsn(0), trim: Lsn(1_150) };
    bench.append_told(1, 3, Bytes::new(), told);
    let released =
        |bench: &Bench| bench.effects.iter().any(|effect| matches!(effect, Effect::Release { .. }));
    assert!(!released(&bench));
    bench.step(Input::Persisted { lsn: Lsn(1_200) });
    assert!(bench.effects.contains(&Effect::Release { below: 3 }));
}

#[test]
fn a_broken_disk_refuses_and_a_full_one_goes_on_when_there_is_room() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.batch(100));
    bench.step(Input::DiskFailed { reason: "full".to_owned(), full: true });
    assert!(matches!(bench.refused(), Some(Refusal::Stopped(stopped)) if stopped.full));
    bench.step(Input::DiskRecovered).append(1, 2, tape.batch(100)).sync();
    assert_eq!(bench.acked(), Some((2, 1_200)));
    bench.step(Input::DiskFailed { reason: "broken".to_owned(), full: false });
    bench.step(Input::DiskRecovered).append(1, 3, Bytes::new());
    assert!(matches!(bench.refused(), Some(Refusal::Stopped(stopped)) if !stopped.full));
}
