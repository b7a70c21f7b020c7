//! What is kept for whom, and who waits for company.

use zorya_types::{Annulled, Incarnation, NodeId, Profile, Truncation, VolumeId};
use zorya_wire::frame::MAX_BODY_LEN;

use super::*;

const ALL: u8 = 6;

fn writer() -> Arc<WriterShared> {
    let profile = Profile::named("6/3az").unwrap();
    let member = |index: u8| Member {
        node: NodeId(format!("node-{index}")),
        incarnation: Incarnation(1),
        zone: "zone".to_owned(),
        address: "address".to_owned(),
    };
    let own = Annulled { epoch: Epoch(1), cut: Lsn(0), first: Lsn(1_000) };
    let opened = Opened {
        volume: VolumeId(1),
        epoch: Epoch(1),
        membership: Membership { generation: 1, members: (0..ALL).map(member).collect(), profile },
        cut: own.cut,
        first: own.first,
        stamp_us: 0,
        told: Told::default(),
        truncation: Truncation::new(&[], own),
        scls: Vec::new(),
        lease_from_ms: 0,
    };
    WriterShared::new(&opened, Vec::new(), Clock::start())
}

fn append(writer: &WriterShared, bytes: usize) -> Lsn {
    let payload = vec![7; bytes];
    writer.append(&[NewRecord { codec: CODEC_NONE, payload: &[&payload], groups: &[] }]).unwrap()
}

/// Sends everything to a replica, which acknowledges it.
fn send(writer: &WriterShared, slot: u8, upto: Lsn) {
    writer.take(Slot(slot), Lsn::ZERO, usize::MAX);
    let acked = Acked {
        epoch: Epoch(1),
        scl: upto,
        persisted: Lsn::ZERO,
        renewed: true,
        clock_us: writer.now().clock_us,
    };
    writer.acked(Slot(slot), &acked, writer.now().monotonic_ms);
}

fn kept(writer: &WriterShared) -> usize {
    writer.state.lock().batches.len()
}

#[test]
fn a_batch_that_a_quorum_has_is_kept_until_every_connected_replica_was_sent_it() {
    let writer = writer();
    (0..5).for_each(|slot| writer.set_connected(Slot(slot), true));
    let lsn = append(&writer, 100);
    (0..4).for_each(|slot| send(&writer, slot, lsn));
    assert_eq!((writer.vdl(), kept(&writer)), (lsn, 1), "slot 4 is connected and was sent nothing");
    assert_eq!(writer.take(Slot(4), Lsn::ZERO, usize::MAX).batches.len(), 1);
    let next = append(&writer, 100);
    (0..4).for_each(|slot| send(&writer, slot, next));
    assert_eq!(kept(&writer), 1, "only what is new waits for slot 4, nothing for slot 5, which is away");
    writer.set_connected(Slot(4), false);
    let last = append(&writer, 100);
    (0..4).for_each(|slot| send(&writer, slot, last));
    assert_eq!(kept(&writer), 0);
}

#[test]
fn a_replica_that_takes_nothing_costs_a_bounded_memory() {
    let writer = writer();
    (0..ALL).for_each(|slot| writer.set_connected(Slot(slot), true));
    for _ in 0..3 * KEPT_BYTES / (1 << 20) {
        let lsn = append(&writer, 1 << 20);
        (0..4).for_each(|slot| send(&writer, slot, lsn));
        assert!(writer.state.lock().batch_bytes <= KEPT_BYTES);
    }
    assert!(kept(&writer) > 0);
    let held: usize = writer.state.lock().batches.iter().map(|batch| batch.bytes.len()).sum();
    assert_eq!(writer.state.lock().batch_bytes, held);
}

/// MariaDB's own suite once wrote 17 MB while the senders' thread got no processor. They became one batch, which is more than a
/// frame may have: replicas ended every connection that it came over, and the volume took nothing more.
#[test]
fn what_nobody_takes_for_a_while_stays_in_batches_that_a_replica_accepts() {
    let writer = writer();
    writer.set_connected(Slot(0), true);
    for _ in 0..20 {
        append(&writer, 1 << 20);
    }
    let batches = writer.take(Slot(0), Lsn::ZERO, usize::MAX).batches;
    let lens: Vec<usize> = batches.iter().map(|batch| batch.bytes.len()).collect();
    assert!(lens.iter().sum::<usize>() > MAX_BODY_LEN, "together they are more than a frame");
    assert!(lens.iter().all(|len| *len < SEAL_BYTES + (2 << 20)), "{lens:?}");
}

#[test]
fn only_replicas_beyond_a_write_quorum_of_answering_ones_wait_for_company() {
    let writer = writer();
    (0..ALL).for_each(|slot| writer.set_connected(Slot(slot), true));
    let waits = |writer: &WriterShared| -> Vec<u8> {
        (0..ALL).filter(|slot| writer.may_wait(Slot(*slot), Lsn::ZERO)).collect()
    };
    assert_eq!(waits(&writer), [] as [u8; 0], "there is nothing to send");
    append(&writer, 100);
    assert_eq!(waits(&writer), [4, 5]);
    writer.set_connected(Slot(1), false);
    assert_eq!(waits(&writer), [5]);
}

#[test]
fn only_a_batch_that_has_been_open_for_long_is_sent_for_its_age() {
    let writer = writer();
    writer.state.lock().last_append -= LINGER;
    assert_eq!(writer.seal_what_lingers(), None, "nothing is open, nothing comes");
    append(&writer, 100);
    assert!(!writer.state.lock().sealer_rests, "the first record wakes the sealer");
    writer.state.lock().opened_at += Duration::from_secs(60);
    assert_eq!((writer.seal_what_lingers(), woken(&writer)), (Some(LINGER), false), "it was opened just now");
    writer.take(Slot(0), Lsn::ZERO, usize::MAX);
    append(&writer, 100);
    writer.state.lock().opened_at -= LINGER;
    assert_eq!((writer.seal_what_lingers(), woken(&writer)), (Some(LINGER), true));
}

/// Whether senders were woken since the last call.
fn woken(writer: &WriterShared) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::pin!(writer.wake_all.notified()).as_mut().poll(&mut context).is_ready()
}
