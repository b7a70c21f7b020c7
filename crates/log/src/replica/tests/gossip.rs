use zorya_types::Lsn;
use zorya_wire::message::log::{
    Digest, DigestReply, Fetch, LogRequest, LogResponse, Records, RequestBody, ResponseBody,
};

use super::*;
use crate::testkit::Tape;

fn digest(slot: u8, truncation: u64, scl: u64) -> Digest {
    Digest {
        slot: peer(slot),
        promised: Epoch(truncation),
        truncation: Epoch(truncation),
        scl: Lsn(scl),
        highest: Lsn(scl),
        told: vdl(scl),
    }
}

fn digest_reply(slot: u8, own: Digest, truncation: Option<Truncation>) -> Input {
    Input::PeerResponse { peer: peer(slot), response: DigestReply { own, truncation }.into() }
}

fn records(slot: u8, truncation: u64, trimmed: bool, records: Bytes) -> Input {
    let body = Records { truncation: Epoch(truncation), trimmed };
    Input::PeerResponse { peer: peer(slot), response: LogResponse::from(body).with_records(records) }
}

/// The fetches asked for since the last look: of whom, and what is had.
fn fetches(bench: &mut Bench) -> Vec<(u8, u64)> {
    let taken = std::mem::take(&mut bench.effects);
    let fetches = taken.into_iter().filter_map(|effect| match effect {
        Effect::Ask { peer, request: LogRequest { body: RequestBody::Fetch(fetch), .. } } => {
            Some((peer.0, fetch.have.0))
        }
        _ => None,
    });
    fetches.collect()
}

#[test]
fn a_replica_that_missed_the_opening_stores_nothing_before_it_knows_the_truncation() {
    let mut tape = Tape::new(1, 0, 1_000);
    let (one, two) = (tape.batch(100), tape.batch(100));
    let mut next = Tape::new(2, 1_100, 2_100);
    let new = next.batch(50);
    let mut bench = Bench::opened();
    bench.append(1, 1, one).append(1, 2, two).sync().effects.clear();
    bench.append(2, 3, new.clone()).append(2, 4, Bytes::new()).sync();
    assert_eq!(bench.replica.highest(), Lsn(1_200));
    assert_eq!(bench.acked(), None);
    bench.step(digest_reply(3, digest(3, 2, 2_150), Some(truncation(&[(1, 0, 1_000), (2, 1_100, 2_100)]))));
    assert_eq!(fetches(&mut bench), [(3, 1_100)], "annulled records are gone, the fetch starts at the cut");
    bench.step(records(3, 2, false, new)).sync();
    assert_eq!(bench.acked(), Some((4, 2_150)));
}

#[test]
fn a_gap_is_filled_from_the_peer_with_the_most() {
    let mut tape = Tape::new(1, 0, 1_000);
    let (one, two, three) = (tape.batch(100), tape.batch(100), tape.batch(100));
    let mut bench = Bench::opened();
    bench.append(1, 1, one).append(1, 3, three).sync();
    bench.step(digest_reply(1, digest(1, 1, 1_100), None));
    assert_eq!(fetches(&mut bench), []);
    bench.step(digest_reply(2, digest(2, 1, 1_200), None));
    assert_eq!(fetches(&mut bench), [(2, 1_100)]);
    bench.step(records(2, 1, false, two)).sync();
    assert_eq!(bench.replica.scl(), Lsn(1_300));
}

#[test]
fn records_held_under_another_truncation_are_not_taken() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append_told(1, 1, Bytes::new(), vdl(1_100));
    bench.step(digest_reply(2, digest(2, 1, 1_100), None));
    bench.step(records(2, 2, false, tape.batch(100)));
    assert_eq!(bench.replica.highest(), Lsn(0));
}

#[test]
fn an_outdated_truncation_is_not_learnt() {
    let mut bench = Bench::opened();
    bench.promise(5, true).sync();
    bench.step(digest_reply(2, digest(2, 4, 0), Some(truncation(&[(4, 0, 2_000)]))));
    assert_eq!(bench.replica.truncation(), Some(&truncation(&[(1, 0, 1_000)])));
}

#[test]
fn a_peer_is_served_what_is_on_disk_and_told_of_what_is_trimmed() {
    let mut tape = Tape::new(1, 0, 1_000);
    let mut bench = Bench::opened();
    bench.append(1, 1, tape.batch(100)).append(1, 2, tape.batch(100)).sync();
    bench.append(1, 3, tape.batch(100)).effects.clear();
    let fetch = |have| Fetch { slot: peer(1), truncation: Epoch(1), have: Lsn(have), max_bytes: 150 };
    bench.request(4, fetch(0), Bytes::new());
    let served = |bench: &mut Bench| match bench.effects.drain(..).next() {
        Some(Effect::Serve { pieces, .. }) => pieces,
        other => panic!("{other:?}"),
    };
    assert_eq!(served(&mut bench), [(2, 0, 100)], "no more than was asked for");
    bench.request(5, fetch(1_100), Bytes::new());
    assert_eq!(served(&mut bench), [(3, 0, 100)], "not what is on its way to the disk");
    let told = Told { vdl: Lsn(1_200), gc: Lsn(0), trim: Lsn(1_100) };
    bench.append_told(1, 6, Bytes::new(), told).step(Input::Persisted { lsn: Lsn(1_200) }).effects.clear();
    bench.request(7, fetch(0), Bytes::new());
    assert!(matches!(&bench.replies()[..], [(7, ResponseBody::Records(body))] if body.trimmed));
}

#[test]
fn a_replica_behind_every_trim_says_that_it_needs_layers() {
    let mut bench = Bench::opened();
    bench.append_told(1, 1, Bytes::new(), vdl(5_000));
    bench.step(digest_reply(2, digest(2, 1, 5_000), None));
    assert!(!bench.replica.needs_layers());
    bench.step(records(2, 1, true, Bytes::new()));
    assert!(bench.replica.needs_layers());
}

#[test]
fn what_peers_acknowledged_is_remembered_for_the_next_opening() {
    let mut bench = Bench::opened();
    bench.step(digest_reply(2, digest(2, 1, 5_000), None));
    bench.promise(2, true).sync();
    assert_eq!(bench.promised().unwrap().seen, [(peer(2), Lsn(5_000))]);
}
