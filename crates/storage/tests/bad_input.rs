//! Bad disks, bad peers, bad requests: a clear error, and nothing that was acknowledged is lost.
#![allow(clippy::unwrap_used, reason = "in a test, what must not fail may panic")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use support::{Region, durable, get, put, wait_until};
use zorya_storage::client::{ClientError, ClientOptions, OpenError};
use zorya_storage::net;
use zorya_types::VolumeId;

fn options(region: &Region, volume: VolumeId, said: &Arc<Mutex<Vec<String>>>) -> ClientOptions {
    let said = said.clone();
    ClientOptions {
        volume,
        addresses: region.addresses.clone(),
        key: region.key.clone(),
        reaped: true,
        progress: Arc::new(move |reason: &str| said.lock().unwrap().push(reason.to_owned())),
    }
}

#[test]
fn a_wrong_volume_id_is_an_error_that_names_it() {
    let region = Region::start();
    region.create_volume();
    let wrong = VolumeId(42);
    let error = zorya_storage::client::open(options(&region, wrong, &Arc::default())).map(drop).unwrap_err();
    assert!(matches!(&error, ClientError::Open(OpenError::NoSuchVolume(id)) if *id == wrong), "{error}");
    assert!(error.to_string().contains(&wrong.to_string()));
}

#[test]
fn a_frame_of_nonsense_ends_its_connection_and_no_other() {
    let region = Region::start();
    let volume = region.create_volume();
    let client = region.open(volume);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for address in &region.addresses {
        let closed = async {
            let mut stream = net::connect(address, &region.key).await.unwrap();
            stream.write_all(&[0xa5; 64]).await.unwrap();
            stream.read(&mut [0; 1]).await
        };
        let closed = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), closed).await });
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "the node closes the connection");
    }
    durable(&*client, put(&*client, 1, b"unharmed")).unwrap();
    assert_eq!(get(&*client, 1).unwrap(), "unharmed");
}

#[test]
fn a_wiped_disk_never_votes() {
    let mut region = Region::start();
    let volume = region.create_volume();
    let client = region.open(volume);
    durable(&*client, put(&*client, 1, b"kept")).unwrap();
    drop(client);
    for index in 0..3 {
        region.stop_node(index);
        std::fs::remove_dir_all(region.data(index)).unwrap();
        region.start_node(index);
    }
    // Three of six have promised nothing and know nothing: with their votes the volume could be opened empty.
    let said = Arc::new(Mutex::new(Vec::new()));
    let opening = options(&region, volume, &said);
    let opened = std::thread::spawn(move || zorya_storage::client::open(opening).map(drop));
    wait_until("the opening says what it waits for", || {
        said.lock().unwrap().iter().any(|reason| reason.contains("az1-a") && reason.contains("az2-a"))
    });
    assert!(!opened.is_finished());
}

#[test]
fn damage_in_a_nodes_log_is_noticed_and_made_good_from_its_peers() {
    let mut region = Region::start();
    let volume = region.create_volume();
    let client = region.open(volume);
    let value = vec![3; 3000];
    let mut last = put(&*client, 0, &value);
    for key in 0..50 {
        last = put(&*client, key, &value);
        durable(&*client, last).unwrap();
    }
    let has_everything = |region: &Region| region.status(4)["volumes"][0]["scl"].as_u64() >= Some(last.0);
    wait_until("the replica beyond the quorum has everything", || has_everything(&region));
    region.stop_node(4);
    flip_a_bit_in_the_log(&region.data(4).join("log"));
    region.start_node(4);
    durable(&*client, put(&*client, 99, b"after")).unwrap();
    wait_until("the damaged replica has everything again", || has_everything(&region));
    drop(client);
    let client = region.open(volume);
    assert_eq!(get(&*client, 99).unwrap(), "after");
    for key in 0..50 {
        assert_eq!(get(&*client, key).unwrap(), value);
    }
}

#[test]
fn damage_in_the_layers_of_two_nodes_is_read_around() {
    let mut region = Region::start();
    let volume = region.create_volume();
    let client = region.open(volume);
    let value = |key: u64| vec![key as u8; 8000];
    for _ in 0..4 {
        for key in 0..200 {
            put(&*client, key, &value(key));
        }
        durable(&*client, put(&*client, 0, &value(0))).unwrap();
    }
    wait_until("every node has layers", || (0..6).all(|index| !layers(&region.data(index)).is_empty()));
    drop(client);
    for index in [0, 3] {
        region.stop_node(index);
        for path in layers(&region.data(index)) {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.iter_mut().skip(4096).step_by(1000).for_each(|byte| *byte ^= 0x10);
            std::fs::write(&path, bytes).unwrap();
        }
        region.start_node(index);
    }
    // Half of those that are left are damaged: a reader cannot but meet them.
    region.stop_node(1);
    region.stop_node(4);
    let client = region.open(volume);
    for key in (0..200).cycle().take(600) {
        assert_eq!(get(&*client, key).unwrap(), value(key));
    }
    durable(&*client, put(&*client, 0, b"goes on")).unwrap();
}

/// The layer files of a node's only volume.
fn layers(data: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![data.join("volumes")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "layer") {
                found.push(path);
            }
        }
    }
    found
}

/// In the middle of what was written, so that entries which were acknowledged are lost.
fn flip_a_bit_in_the_log(directory: &std::path::Path) {
    let mut flipped = false;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let Some(end) = bytes.iter().rposition(|byte| *byte != 0).filter(|end| *end > 100_000) else {
            continue;
        };
        bytes[end / 2] ^= 0x10;
        std::fs::write(&path, bytes).unwrap();
        flipped = true;
    }
    assert!(flipped, "no log file with enough in it in {}", directory.display());
}
