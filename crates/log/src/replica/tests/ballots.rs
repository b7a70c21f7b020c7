use zorya_types::Lsn;
use zorya_wire::message::log::{CatchUp, LeaseHeld, Refusal, ResponseBody, StaleEpoch};

use super::*;
use crate::testkit::Tape;

#[test]
fn a_promise_is_answered_when_it_is_on_disk_with_what_is_there_then() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.batch(100));
    bench.now_ms = 5_000;
    bench.promise(2, false);
    assert_eq!(bench.promised(), None);
    bench.sync();
    let promised = bench.promised().unwrap();
    assert_eq!((promised.epoch, promised.scl, promised.tail), (Epoch(2), Lsn(1_100), Tail::Clean));
}

#[test]
fn after_a_promise_the_older_writer_is_never_acknowledged() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.batch(100));
    bench.promise(2, true);
    assert_eq!(bench.refused(), Some(StaleEpoch { promised: Epoch(2) }.into()));
    bench.sync();
    assert_eq!(bench.acked(), None);
}

#[test]
fn a_ballot_is_promised_once_but_repeated_to_its_own_opener() {
    let mut bench = Bench::opened();
    bench.promise(2, true).promise(2, true).sync();
    assert!(bench.promised().is_some());
    let promise = Promise { epoch: Epoch(2), incarnation: Incarnation(1), reaped: true };
    bench.step(Input::Request { from: 6, id: 1, request: promise.into() });
    assert_eq!(bench.refused(), Some(StaleEpoch { promised: Epoch(2) }.into()));
    bench.promise(1, true);
    assert_eq!(bench.refused(), Some(StaleEpoch { promised: Epoch(2) }.into()));
}

#[test]
fn a_lease_holds_off_an_opener_unless_the_writer_is_known_to_be_dead() {
    let mut bench = Bench::opened();
    bench.now_ms = 10_000;
    bench.append(1, 1, Bytes::new()).effects.clear();
    bench.now_ms = 11_500;
    bench.promise(2, false);
    assert_eq!(bench.refused(), Some(LeaseHeld { remaining_ms: 500 }.into()));
    bench.promise(2, true).sync();
    assert!(bench.promised().is_some());
    let mut bench = Bench::opened();
    bench.now_ms = 2_000;
    bench.promise(2, false).sync();
    assert!(bench.promised().is_some(), "the lease has run out");
}

/// A writer that lives renews its lease for ever. An opener that waits for the end of it has to get its turn.
#[test]
fn a_lease_is_not_renewed_while_an_opener_waits_for_its_end() {
    let mut bench = Bench::opened();
    bench.now_ms = 10_000;
    bench.append(1, 1, Bytes::new());
    bench.promise(2, false);
    assert_eq!(bench.refused(), Some(LeaseHeld { remaining_ms: 2_000 }.into()));
    bench.now_ms = 11_000;
    bench.append(1, 2, Bytes::new());
    let renewed = bench.replies().into_iter().find_map(|(_, body)| match body {
        ResponseBody::Acked(acked) => Some(acked.renewed),
        _ => None,
    });
    assert_eq!(renewed, Some(false));
    bench.now_ms = 12_000;
    bench.promise(2, false).sync();
    assert!(bench.promised().is_some());
}

#[test]
fn an_opener_that_is_gone_is_forgotten() {
    let mut bench = Bench::opened();
    bench.now_ms = 10_000;
    bench.append(1, 1, Bytes::new());
    bench.promise(2, false);
    assert!(bench.refused().is_some());
    bench.now_ms = 14_000;
    bench.append(1, 2, Bytes::new());
    bench.now_ms = 14_500;
    bench.promise(3, false);
    assert_eq!(bench.refused(), Some(LeaseHeld { remaining_ms: 1_500 }.into()));
}

#[test]
fn an_accepted_truncation_deletes_what_it_annuls_before_anything_is_said() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.batch(100)).append(1, 2, tape.batch(100)).sync();
    bench.promise(2, true).sync().effects.clear();
    bench.accept(2, truncation(&[(1, 0, 1_000), (2, 1_100, 2_100)]));
    assert_eq!(bench.replies(), [], "not before it is on disk");
    bench.sync();
    assert!(matches!(bench.replies()[..], [(91, ResponseBody::Accepted(_))]));
    assert_eq!((bench.replica.scl(), bench.replica.highest()), (Lsn(1_100), Lsn(1_100)));
    let mut next = Tape::new(2, 1_100, 2_100);
    bench.append(2, 3, next.batch(50)).sync();
    assert_eq!(bench.acked(), Some((3, 2_150)), "SCL jumps over the annulled stretch");
}

#[test]
fn an_old_an_outdated_and_a_second_truncation_are_refused() {
    let mut bench = Bench::opened();
    bench.promise(5, true).sync().effects.clear();
    bench.accept(4, truncation(&[(4, 0, 2_000)]));
    assert_eq!(bench.refused(), Some(StaleEpoch { promised: Epoch(5) }.into()));
    bench.accept(5, truncation(&[(5, 0, 2_000)])).sync().effects.clear();
    bench.accept(5, truncation(&[(5, 0, 2_001)]));
    assert!(matches!(bench.refused(), Some(Refusal::Invalid(_))));
    bench.accept(5, truncation(&[(5, 0, 2_000)])).sync();
    assert!(matches!(bench.replies()[..], [(91, ResponseBody::Accepted(_))]), "a retry is answered");
}

#[test]
fn a_truncation_that_would_cut_what_is_durable_is_refused() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append_told(1, 1, tape.batch(100), vdl(1_100)).sync().effects.clear();
    bench.accept(2, truncation(&[(2, 0, 2_000)]));
    assert!(matches!(bench.refused(), Some(Refusal::Invalid(_))));
}

#[test]
fn a_truncation_forgets_one_that_was_never_chosen() {
    let mut tape = Tape::new(1, 0, 1_000);
    let (one, two) = (tape.batch(100), tape.batch(100));
    let mut bench = Bench::opened();
    bench.append(1, 1, one).append(1, 2, two.clone()).sync();
    bench.accept(2, truncation(&[(1, 0, 1_000), (2, 1_100, 2_100)])).sync();
    bench.accept(3, truncation(&[(1, 0, 1_000), (3, 1_200, 2_200)])).sync();
    assert_eq!(bench.replica.scl(), Lsn(1_100));
    bench.append(3, 3, two).sync();
    assert_eq!(bench.replica.scl(), Lsn(1_200), "the record of epoch 1 stands again");
}

#[test]
fn catching_up_is_answered_when_everything_is_on_disk() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.accept(2, truncation(&[(1, 0, 1_000), (2, 1_100, 2_100)])).sync().effects.clear();
    let catch_up = CatchUp { epoch: Epoch(2), incarnation: Incarnation(1), upto: Lsn(1_100) };
    bench.request(8, catch_up, Bytes::new());
    let asked = bench.effects.iter().filter(|effect| matches!(effect, Effect::Ask { .. })).count();
    assert_eq!(asked, 5, "it asks every peer");
    bench.append(2, 9, tape.batch(100));
    assert_eq!(bench.replies(), []);
    bench.sync();
    assert!(bench.replies().iter().any(|(id, body)| *id == 8 && matches!(body, ResponseBody::CaughtUp(_))));
}
