//! Openings: the decision by truth tables, the phases by their messages.

use zorya_types::{Incarnation, Lsn};
use zorya_wire::message::log::{Accepted, CaughtUp, RequestBody, StaleEpoch, Tail};

use super::decide::Verdict;
use super::*;
use crate::testkit::{LIMIT, VOLUME, at, membership, truncation};

fn promised(scl: u64, history: &[(u64, u64, u64)], tail: Tail) -> Promised {
    Promised {
        epoch: Epoch(9),
        scl: Lsn(scl),
        consistency_point: Lsn(scl),
        stamp_us: scl,
        truncation: (!history.is_empty()).then(|| truncation(history)),
        membership: membership("6/3az"),
        tail,
        seen: vec![],
        told: Told::default(),
    }
}

/// The decided stretches, or `None` while more replies are waited for.
fn decided(replies: &[Promised]) -> Option<Vec<(u64, u64, u64)>> {
    let replies: Vec<_> = replies.iter().enumerate().map(|(slot, one)| (Slot(slot as u8), one)).collect();
    match decide(&replies, &membership("6/3az").profile, Epoch(9), LIMIT) {
        Verdict::Waiting(_) => None,
        Verdict::Decided(decision) => {
            let stretches = decision.truncation.history().iter();
            Some(stretches.map(|one| (one.epoch.0, one.cut.0, one.first.0)).collect())
        }
    }
}

const ONE: &[(u64, u64, u64)] = &[(1, 0, 1_000)];

#[test]
fn the_log_ends_at_the_highest_scl_of_a_write_quorum_of_promises() {
    let reply = |scl| promised(scl, ONE, Tail::Clean);
    assert_eq!(decided(&[reply(1_100), reply(1_200), reply(1_100)]), None);
    let four = [reply(1_100), reply(1_200), reply(1_100), reply(0)];
    assert_eq!(decided(&four), Some(vec![(1, 0, 1_000), (9, 1_200, 2_200)]));
}

#[test]
fn a_new_volume_starts_after_the_allocation_limit() {
    let reply = promised(0, &[], Tail::Clean);
    assert_eq!(decided(&[reply.clone(), reply.clone(), reply.clone(), reply]), Some(vec![(9, 0, 1_000)]));
}

#[test]
fn the_highest_truncation_is_honoured_and_clips_what_older_ones_hold() {
    let old = promised(1_500, ONE, Tail::Clean);
    let new = promised(1_200, &[(1, 0, 1_000), (2, 1_200, 2_200)], Tail::Clean);
    let replies = [old.clone(), old.clone(), old, new];
    assert_eq!(
        decided(&replies),
        Some(vec![(1, 0, 1_000), (9, 1_200, 3_200)]),
        "and an empty stretch merges"
    );
    let written = promised(2_300, &[(1, 0, 1_000), (2, 1_200, 2_200)], Tail::Clean);
    let replies = [replies[0].clone(), replies[1].clone(), replies[3].clone(), written];
    assert_eq!(decided(&replies), Some(vec![(1, 0, 1_000), (2, 1_200, 2_200), (9, 2_300, 3_300)]));
}

#[test]
fn damaged_and_torn_tails_wait_for_enough_others() {
    use Tail::{Clean, Damaged, Torn};
    let cases: [(&[Tail], bool); 8] = [
        (&[Clean, Clean, Clean, Clean], true),
        (&[Clean, Clean, Clean, Damaged], true),
        (&[Clean, Clean, Damaged, Damaged], false),
        (&[Clean, Clean, Clean, Torn], true),
        (&[Clean, Clean, Torn, Torn], false),
        (&[Torn, Torn, Torn, Torn], false),
        (&[Torn, Torn, Torn, Torn, Torn], true),
        (&[Torn, Torn, Torn, Torn, Damaged], false),
    ];
    for (tails, enough) in cases {
        let replies: Vec<_> = tails.iter().map(|tail| promised(1_100, ONE, *tail)).collect();
        assert_eq!(decided(&replies).is_some(), enough, "{tails:?}");
    }
}

#[test]
fn a_damaged_reply_still_raises_the_cut() {
    let clean = promised(1_100, ONE, Tail::Clean);
    let replies = [clean.clone(), clean.clone(), clean, promised(1_900, ONE, Tail::Damaged)];
    assert_eq!(decided(&replies), Some(vec![(1, 0, 1_000), (9, 1_900, 2_900)]));
}

#[test]
fn a_reply_below_what_a_peer_saw_it_acknowledge_is_damaged() {
    let short = promised(1_100, ONE, Tail::Clean);
    let witness = Promised { seen: vec![(Slot(0), Lsn(1_200)), (Slot(1), Lsn(1_200))], ..short.clone() };
    let replies = [short.clone(), short.clone(), short.clone(), witness];
    assert_eq!(decided(&replies), None);
    let fifth = [replies.as_slice(), &[short]].concat();
    assert!(decided(&fifth).is_some());
}

fn respond(opening: &mut Opening, slot: u8, body: impl Into<ResponseBody>) -> Vec<OpenEffect> {
    let response = LogResponse { body: body.into(), records: bytes::Bytes::new() };
    opening.step(at(10), OpenInput::Response { slot: Slot(slot), response })
}

fn sent(effects: &[OpenEffect]) -> Vec<(u8, &'static str)> {
    let kind = |body: &RequestBody| match body {
        RequestBody::Promise(_) => "promise",
        RequestBody::Accept(_) => "accept",
        RequestBody::CatchUp(_) => "catch up",
        _ => "?",
    };
    let sends = effects.iter().filter_map(|effect| match effect {
        OpenEffect::Send { slot, request } => Some((slot.0, kind(&request.body))),
        _ => None,
    });
    sends.collect()
}

#[test]
fn an_opening_goes_through_its_phases() {
    let (mut opening, effects) = Opening::new(VOLUME, membership("6/3az"), Epoch(9), true, LIMIT, at(0));
    assert_eq!(sent(&effects).len(), 6);
    for slot in 0..3 {
        assert_eq!(sent(&respond(&mut opening, slot, promised(1_100, ONE, Tail::Clean))), []);
    }
    let effects = respond(&mut opening, 3, promised(1_100, ONE, Tail::Clean));
    assert_eq!(sent(&effects), [(0, "accept"), (1, "accept"), (2, "accept"), (3, "accept")]);
    for slot in 0..4 {
        let effects = respond(&mut opening, slot, Accepted { epoch: Epoch(9) });
        assert_eq!(sent(&effects), [(slot, "catch up")]);
    }
    for slot in 0..3 {
        respond(&mut opening, slot, CaughtUp { epoch: Epoch(9), scl: Lsn(1_100) });
    }
    let effects = respond(&mut opening, 3, CaughtUp { epoch: Epoch(9), scl: Lsn(1_100) });
    let [OpenEffect::Opened(opened)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((opened.cut, opened.first, opened.lease_from_ms), (Lsn(1_100), Lsn(2_100), 10));
}

#[test]
fn lost_requests_are_sent_again_and_a_lease_is_waited_out() {
    let (mut opening, _) = Opening::new(VOLUME, membership("6/3az"), Epoch(9), false, LIMIT, at(0));
    respond(&mut opening, 0, Refusal::LeaseHeld(zorya_wire::message::log::LeaseHeld { remaining_ms: 900 }));
    assert_eq!(sent(&opening.step(at(299), OpenInput::Tick)), []);
    let again: Vec<_> = (1..6).map(|slot| (slot, "promise")).collect();
    assert_eq!(sent(&opening.step(at(300), OpenInput::Tick)), again);
    assert_eq!(sent(&opening.step(at(911), OpenInput::Tick)).len(), 6);
}

#[test]
fn a_newer_promise_ends_the_ballot_and_another_disk_is_left_out() {
    let (mut opening, _) = Opening::new(VOLUME, membership("6/3az"), Epoch(9), false, LIMIT, at(0));
    let other = zorya_wire::message::log::OtherIncarnation { own: Incarnation(77) };
    let effects = respond(&mut opening, 4, Refusal::OtherIncarnation(other));
    assert!(matches!(&effects[..], [OpenEffect::Waiting(text)] if text.contains("node-4 has a disk")));
    assert_eq!(sent(&opening.step(at(400), OpenInput::Tick)).len(), 5);
    let effects = respond(&mut opening, 0, Refusal::StaleEpoch(StaleEpoch { promised: Epoch(12) }));
    assert_eq!(effects, [OpenEffect::Failed(OpenFailed::StaleEpoch { promised: Epoch(12) })]);
    assert_eq!(opening.step(at(900), OpenInput::Tick), []);
}
