//! Six real storage nodes and the client: what is acknowledged is there, whoever is down.
#![allow(clippy::unwrap_used, reason = "in a test, what must not fail may panic")]

mod support;

use std::time::Duration;

use support::{Region, durable, get, put, try_durable, wait_until};
use zorya_storage::store::{AppendRefused, NewRecord, VolumeLost, VolumeStore};
use zorya_wire::record::CODEC_NONE;

#[test]
fn what_was_durable_is_read_back_by_the_next_writer_and_the_old_one_is_fenced() {
    let region = Region::start();
    let volume = region.create_volume();
    let first = region.open(volume);
    for key in 0..100 {
        put(&*first, key, format!("value {key}").as_bytes());
    }
    let last = put(&*first, 7, b"changed");
    durable(&*first, last).unwrap();
    assert_eq!(get(&*first, 7).unwrap(), "changed");
    let second = region.open(volume);
    assert!(second.epoch() > first.epoch());
    assert_eq!(get(&*second, 7).unwrap(), "changed");
    assert_eq!(get(&*second, 99).unwrap(), "value 99");
    assert_eq!(get(&*second, 100), None);
    let late = first.append(NewRecord { codec: CODEC_NONE, payload: &[], groups: &[] });
    let fenced = match late {
        Ok(lsn) => durable(&*first, lsn).unwrap_err(),
        Err(AppendRefused::Lost(lost)) => lost,
        Err(other) => panic!("{other}"),
    };
    assert!(matches!(fenced, VolumeLost::Fenced { by, .. } if by == second.epoch()));
    let more = put(&*second, 8, b"second");
    durable(&*second, more).unwrap();
}

#[test]
fn a_zone_down_is_not_noticed_and_a_zone_and_one_down_only_waits() {
    let mut region = Region::start();
    let volume = region.create_volume();
    let client = region.open(volume);
    durable(&*client, put(&*client, 1, b"six")).unwrap();
    region.stop_node(0);
    region.stop_node(1);
    durable(&*client, put(&*client, 2, b"four")).unwrap();
    region.stop_node(2);
    let waiting = put(&*client, 3, b"three");
    assert!(try_durable(&*client, waiting, Duration::from_millis(300)).is_none());
    assert_eq!(get(&*client, 2).unwrap(), "four", "reads need no write quorum");
    wait_until("the lease has run out as well", || {
        let heartbeat = NewRecord { codec: CODEC_NONE, payload: &[], groups: &[] };
        matches!(client.append(heartbeat), Err(AppendRefused::AtAllocationLimit))
    });
    region.start_node(2);
    durable(&*client, waiting).unwrap();
    assert_eq!(get(&*client, 3).unwrap(), "three");
}

#[test]
fn a_node_that_was_down_catches_up_from_its_peers() {
    let mut region = Region::start();
    let volume = region.create_volume();
    let client = region.open(volume);
    durable(&*client, put(&*client, 0, b"first")).unwrap();
    region.stop_node(5);
    let value = vec![7; 4000];
    let mut last = put(&*client, 0, &value);
    for round in 0..20 {
        for key in 0..100 {
            last = put(&*client, key, &value);
        }
        durable(&*client, last).unwrap();
        let _ = round;
    }
    region.start_node(5);
    wait_until("the node has everything", || {
        let status = region.status(5);
        status["volumes"][0]["scl"].as_u64() >= Some(last.0)
            && status["volumes"][0]["applied"].as_u64() >= Some(last.0)
    });
}

#[test]
fn everything_stopped_and_started_again_is_as_it_was() {
    let mut region = Region::start();
    let volume = region.create_volume();
    let client = region.open(volume);
    let value = vec![1; 8000];
    let mut last = put(&*client, 0, b"");
    for key in 0..600 {
        last = put(&*client, key, &value);
        if key % 50 == 0 {
            durable(&*client, last).unwrap();
        }
    }
    durable(&*client, last).unwrap();
    drop(client);
    (0..6).for_each(|index| region.stop_node(index));
    (0..6).for_each(|index| region.start_node(index));
    let client = region.open(volume);
    for key in 0..600 {
        assert_eq!(get(&*client, key).unwrap(), value);
    }
    let epoch = client.epoch();
    drop(client);
    let again = region.open(volume);
    assert!(again.epoch() > epoch);
}

#[test]
fn an_opener_gets_the_volume_from_a_writer_that_lives_and_goes_on_writing() {
    let region = Region::start();
    let volume = region.create_volume();
    let first = region.open(volume);
    let second = std::thread::scope(|scope| {
        let opener = scope.spawn(|| region.open_reaped(volume, false));
        while !opener.is_finished() {
            let heartbeat = NewRecord { codec: CODEC_NONE, payload: &[], groups: &[] };
            if let Err(AppendRefused::Lost(_)) = first.append(heartbeat) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        opener.join().unwrap()
    });
    durable(&*second, put(&*second, 1, b"second")).unwrap();
    assert!(second.epoch() > first.epoch());
}
