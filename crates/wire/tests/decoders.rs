//! Every decoder of what crosses a connection takes any bytes: it answers or says what is wrong, and never panics.
//!
//! `fuzz_decoders` does the same for `ZORYA_FUZZ_MINUTES`, mutating valid messages (`make fuzz`).
#![allow(clippy::unwrap_used, reason = "in a test, what must not fail may panic")]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use zorya_types::{
    Annulled, Epoch, GroupId, Incarnation, Key, Lineage, LogId, Lsn, Member, Membership, NodeId, Profile,
    Slot, Truncation, VolumeId,
};
use zorya_wire::frame::{FrameHeader, HEADER_LEN};
use zorya_wire::message::log::{
    Accept, Append, CatchUp, Digest, DigestReply, Fetch, LogRequest, LogResponse, Promise, Promised, Records,
    Tail, Told,
};
use zorya_wire::message::node::{CreateVolume, DescribeVolume, DiskSpace, Identify, MeasureDisk, Status};
use zorya_wire::message::pages::{Entries, GroupTails, Read, ReadAt, Scan, Values};
use zorya_wire::message::{Outgoing, Request, Response};
use zorya_wire::record::FLAG_CONSISTENCY_POINT;
use zorya_wire::{GroupLink, Record, RecordBuilder};

fn membership() -> Membership {
    let member = |slot: u8| Member {
        node: NodeId(format!("az{slot}")),
        incarnation: Incarnation(u64::from(slot)),
        zone: "az1".to_owned(),
        address: "127.0.0.1:1".to_owned(),
    };
    Membership {
        generation: 1,
        profile: Profile::named("3/3az").unwrap(),
        members: (0..3).map(member).collect(),
    }
}

fn truncation() -> Truncation {
    Truncation::new(&[], Annulled { epoch: Epoch(3), cut: Lsn(10), first: Lsn(100) })
}

fn record() -> Bytes {
    let mut out = BytesMut::new();
    RecordBuilder {
        flags: FLAG_CONSISTENCY_POINT,
        codec: 1,
        epoch: Epoch(3),
        start: Lsn(100),
        prev: Lsn(10),
        stamp_us: 7,
        groups: &[
            GroupLink { group: GroupId(0), prev: Lsn(1) },
            GroupLink { group: GroupId(9), prev: Lsn(0) },
        ],
        payload: &[b"payload"],
    }
    .encode(&mut out);
    out.freeze()
}

fn requests() -> Vec<Request> {
    let (epoch, incarnation, volume) = (Epoch(3), Incarnation(4), VolumeId(5));
    let told = Told { vdl: Lsn(3), gc: Lsn(2), trim: Lsn(1) };
    let digest =
        Digest { slot: Slot(1), promised: epoch, truncation: epoch, scl: Lsn(1), highest: Lsn(2), told };
    let at =
        ReadAt { epoch, lsn: Lsn(9), lineage: Lineage::root(LogId(1)).branch(Lsn(5), LogId(2)).unwrap() };
    let log = |request: LogRequest| Request::Log(volume, request);
    let append = LogRequest::from(Append { epoch, incarnation, told, urgent: true });
    vec![
        log(append.with_records(record())),
        log(Promise { epoch, incarnation, reaped: false }.into()),
        log(Accept { epoch, incarnation, truncation: truncation() }.into()),
        log(CatchUp { epoch, incarnation, upto: Lsn(4) }.into()),
        log(digest.into()),
        log(Fetch { slot: Slot(0), truncation: epoch, have: Lsn(1), max_bytes: 9 }.into()),
        Request::Pages(volume, Read { at: at.clone(), keys: vec![(GroupId(0), Key::inode(1))] }.into()),
        Request::Pages(
            volume,
            Scan { at: at.clone(), group: GroupId(0), from: Key::MIN, to: Key::MAX, max_bytes: 1 }.into(),
        ),
        Request::Pages(volume, GroupTails { at: at.clone() }.into()),
        Request::Node(Identify {}.into()),
        Request::Node(Status {}.into()),
        Request::Node(MeasureDisk {}.into()),
        Request::Node(DescribeVolume { volume }.into()),
        Request::Node(
            CreateVolume { volume, log: LogId(1), lineage: at.lineage, membership: membership() }.into(),
        ),
    ]
}

fn responses() -> Vec<Response> {
    let told = Told::default();
    let epoch = Epoch(1);
    let own =
        Digest { slot: Slot(1), promised: epoch, truncation: epoch, scl: Lsn(1), highest: Lsn(2), told };
    let promised = Promised {
        epoch,
        scl: Lsn(1),
        consistency_point: Lsn(1),
        stamp_us: 1,
        truncation: Some(truncation()),
        membership: membership(),
        tail: Tail::Torn,
        seen: vec![(Slot(1), Lsn(1))],
        told,
    };
    let records = LogResponse::from(Records { truncation: epoch, trimmed: false }).with_records(record());
    vec![
        Response::Log(promised.into()),
        Response::Log(DigestReply { own, truncation: Some(truncation()) }.into()),
        Response::Log(records),
        Response::Pages(Values { values: vec![None, Some(Bytes::from_static(b"x"))] }.into()),
        Response::Pages(
            Entries { entries: vec![(Key::inode(1), Bytes::new())], next: Some(Key::MAX) }.into(),
        ),
        Response::Node(DiskSpace { total_bytes: 2, free_bytes: 1, file_system: 3 }.into()),
    ]
}

fn joined(message: &Outgoing) -> Vec<u8> {
    [message.head.as_ref(), message.records.as_ref()].concat()
}

fn corpus() -> Vec<Vec<u8>> {
    let requests = requests().into_iter().map(|request| joined(&request.encode(1)));
    let responses = responses().into_iter().map(|response| joined(&response.encode(1)));
    requests.chain(responses).chain([record().to_vec()]).collect()
}

fn split(bytes: &[u8]) -> Option<(FrameHeader, Bytes)> {
    let header = FrameHeader::decode(bytes.first_chunk::<HEADER_LEN>()?).ok()?;
    let body = Bytes::copy_from_slice(&bytes[HEADER_LEN..]);
    (body.len() == header.body as usize).then_some((header, body))
}

fn decoded(bytes: &[u8]) -> (Option<Request>, Option<Response>) {
    let Some((header, body)) = split(bytes) else { return (None, None) };
    (Request::decode(&header, body.clone()).ok(), Response::decode(&header, body).ok())
}

/// Reads bytes as a record and as both kinds of message; what decodes, encodes to something that decodes to it again.
fn read_as_everything(bytes: &[u8]) {
    let _ = Record::decode(&mut Bytes::copy_from_slice(bytes));
    let Some((header, body)) = split(bytes) else { return };
    let _ = header.check(&body);
    let (request, response) = decoded(bytes);
    if let Some(request) = request {
        assert_eq!(decoded(&joined(&request.encode(header.id))).0, Some(request));
    }
    if let Some(response) = response {
        assert_eq!(decoded(&joined(&response.encode(header.id))).1, Some(response));
    }
}

#[test]
fn every_message_reads_back() {
    for request in requests() {
        assert_eq!(decoded(&joined(&request.encode(1))).0, Some(request));
    }
    for response in responses() {
        assert_eq!(decoded(&joined(&response.encode(1))).1, Some(response));
    }
}

#[test]
fn a_count_that_the_bytes_cannot_hold_allocates_nothing() {
    let at = ReadAt { epoch: Epoch(1), lsn: Lsn(1), lineage: Lineage::root(LogId(1)) };
    let mut bytes = joined(&Request::Pages(VolumeId(1), Read { at, keys: Vec::new() }.into()).encode(1));
    let count_at = bytes.len() - 4;
    bytes[count_at..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decoded(&bytes), (None, None));
}

proptest! {
    #[test]
    fn any_bytes_are_answered_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn damaged_messages_are_answered_or_refused(which: usize, at: usize, flip in 1u8..) {
        let corpus = corpus();
        let mut bytes = corpus[which % corpus.len()].clone();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        read_as_everything(&bytes);
    }
}

#[test]
#[ignore = "runs for ZORYA_FUZZ_MINUTES: make fuzz"]
fn fuzz_decoders() {
    let minutes = std::env::var("ZORYA_FUZZ_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let corpus = corpus();
    let (ends, mut executions) = (Instant::now() + Duration::from_secs_f64(minutes * 60.0), 0u64);
    while Instant::now() < ends {
        let mut bytes = corpus[random.random_range(0..corpus.len())].clone();
        for _ in 0..random.random_range(1..6) {
            mutate(&mut bytes, &mut random);
        }
        read_as_everything(&bytes);
        executions += 1;
    }
    println!("{executions} executions without a finding");
}

fn mutate(bytes: &mut Vec<u8>, random: &mut impl Rng) {
    let at = random.random_range(0..bytes.len().max(1));
    match random.random_range(0..4) {
        0 if !bytes.is_empty() => bytes[at] = random.random(),
        1 => bytes.truncate(at),
        2 => bytes.insert(at.min(bytes.len()), random.random()),
        _ => {
            let word = [0u32, 1, u32::MAX, 0x7fff_ffff, 16 << 20][random.random_range(0..5)].to_le_bytes();
            bytes.iter_mut().skip(at).zip(word).for_each(|(byte, new)| *byte = new);
        }
    }
}
