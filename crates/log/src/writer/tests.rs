//! The writer's arithmetic.

use zorya_types::{Lsn, Slot};
use zorya_wire::message::log::{Acked, StaleEpoch, Told};

use super::*;
use crate::testkit::{CLOCK_US, LIMIT, VOLUME, at, membership, truncation};

fn writer(profile: &str) -> Writer {
    let opened = Opened {
        volume: VOLUME,
        epoch: Epoch(3),
        membership: membership(profile),
        cut: Lsn(500),
        first: Lsn(1_500),
        stamp_us: 7,
        told: Told::default(),
        truncation: truncation(&[(3, 500, 1_500)]),
        scls: vec![],
        lease_from_ms: 0,
    };
    let config = WriterConfig { allocation_limit: LIMIT, ..WriterConfig::default() };
    Writer::new(&opened, config, at(0))
}

fn ack(scl: u64) -> Acked {
    Acked { epoch: Epoch(3), scl: Lsn(scl), persisted: Lsn(scl), renewed: true, clock_us: CLOCK_US }
}

#[test]
fn vcl_is_what_a_write_quorum_has_in_every_profile() {
    for (profile, replicas, quorum) in [("6/3az", 6, 4), ("3/3az", 3, 2), ("1", 1, 1)] {
        let mut writer = writer(profile);
        writer.place(at(0), 100, true).unwrap();
        for slot in 0..replicas {
            assert_eq!(writer.told().vdl, Lsn(if slot < quorum { 500 } else { 1_600 }), "{profile}");
            let progress = writer.acked(at(1), Slot(slot), &ack(1_600), 0);
            assert_eq!(progress.vdl_rose, slot + 1 == quorum, "{profile}");
        }
    }
}

#[test]
fn vdl_stops_at_consistency_points() {
    let mut writer = writer("1");
    writer.place(at(0), 100, false).unwrap();
    writer.place(at(0), 100, true).unwrap();
    writer.place(at(0), 100, false).unwrap();
    writer.acked(at(1), Slot(0), &ack(1_600), 0);
    assert_eq!((writer.positions().vcl, writer.told().vdl), (Lsn(1_600), Lsn(500)));
    writer.acked(at(1), Slot(0), &ack(1_800), 0);
    assert_eq!(writer.told().vdl, Lsn(1_700));
}

#[test]
fn an_acknowledgement_of_another_epoch_or_of_the_future_does_not_count() {
    let mut writer = writer("1");
    writer.place(at(0), 100, true).unwrap();
    writer.acked(at(1), Slot(0), &Acked { epoch: Epoch(2), ..ack(1_600) }, 0);
    assert_eq!(writer.positions().vcl, Lsn(500));
    writer.acked(at(1), Slot(0), &ack(9_999), 0);
    assert_eq!(writer.positions().vcl, Lsn(1_600));
}

#[test]
fn records_follow_each_other_and_the_first_jumps_over_what_the_opening_annulled() {
    let mut writer = writer("1");
    let one = writer.place(at(0), 100, true).unwrap();
    let two = writer.place(at(0), 100, true).unwrap();
    assert_eq!((one.prev, one.start), (Lsn(500), Lsn(1_500)));
    assert_eq!((two.prev, two.start), (Lsn(1_600), Lsn(1_600)));
}

#[test]
fn the_allocation_limit_holds_writes_back_until_vdl_rises() {
    let mut writer = writer("1");
    writer.place(at(0), 900, true).unwrap();
    assert_eq!(writer.place(at(0), 101, true), Err(PlaceRefused::AtAllocationLimit));
    assert!(!writer.has_room(101) && writer.has_room(100));
    writer.acked(at(1), Slot(0), &ack(2_400), 0);
    assert!(writer.place(at(1), 1_000, true).is_ok());
}

#[test]
fn the_lease_runs_from_when_a_write_quorum_was_last_spoken_to() {
    let mut writer = writer("6/3az");
    for slot in 0..4 {
        writer.acked(at(900), Slot(slot), &ack(500), 500 + u64::from(slot));
    }
    assert_eq!(writer.lease_until_ms(), 2_500);
    assert!(writer.place(at(2_499), 50, true).is_ok());
    assert_eq!(writer.place(at(2_500), 50, true), Err(PlaceRefused::LeaseExpired));
}

#[test]
fn stamps_follow_the_clock_but_never_fall_and_never_run_ahead_of_the_replicas() {
    let mut writer = writer("3/3az");
    let stamp = |writer: &mut Writer, clock_us| {
        writer.place(Now { monotonic_ms: 10, clock_us }, 50, true).unwrap().stamp_us
    };
    assert_eq!(stamp(&mut writer, CLOCK_US), 7, "no clock is known yet");
    for slot in 0..2 {
        writer.acked(at(10), Slot(slot), &ack(500), 0);
    }
    assert_eq!(stamp(&mut writer, CLOCK_US + 5), CLOCK_US + 5);
    assert_eq!(stamp(&mut writer, CLOCK_US + 1), CLOCK_US + 5);
    assert_eq!(stamp(&mut writer, CLOCK_US + 10_000_000), CLOCK_US + 500_000);
}

#[test]
fn a_newer_epoch_fences_for_good() {
    let mut writer = writer("1");
    assert_eq!(writer.refused(Slot(0), &StaleEpoch { promised: Epoch(9) }.into()), Some(Epoch(9)));
    assert_eq!(writer.place(at(0), 50, true), Err(PlaceRefused::Fenced { by: Epoch(9) }));
}

#[test]
fn gc_waits_for_readers_and_trim_for_layers_and_for_who_is_behind() {
    let mut writer = writer("3/3az");
    writer.set_needed(Some(Lsn(600)));
    writer.place(at(0), 500, true).unwrap();
    for slot in 0..2 {
        writer.acked(at(1), Slot(slot), &ack(2_000), 0);
    }
    assert_eq!(writer.told(), Told { vdl: Lsn(2_000), gc: Lsn(600), trim: Lsn(0) });
    writer.set_needed(None);
    writer.acked(at(1), Slot(2), &ack(1_800), 0);
    assert_eq!(writer.told(), Told { vdl: Lsn(2_000), gc: Lsn(2_000), trim: Lsn(1_800) });
}

#[test]
fn a_record_links_to_the_one_before_it_in_each_group() {
    let mut writer = writer("1");
    writer.set_tails(vec![(GroupId(1), Lsn(400))]);
    let mut links = Vec::new();
    writer.link_groups(&[GroupId(1), GroupId(2)], Lsn(1_600), &mut links);
    writer.link_groups(&[GroupId(2)], Lsn(1_700), &mut links);
    let prevs: Vec<_> = links.iter().map(|link| (link.group.0, link.prev.0)).collect();
    assert_eq!(prevs, [(1, 400), (2, 0), (2, 1_600)]);
}
