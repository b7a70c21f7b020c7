use std::sync::Arc;

use bytes::Bytes;
use zorya_types::FileKey;

use super::*;
use crate::chain::{At, Chain, Change};
use crate::clears::Clears;
use crate::config::NodeMemory;
use crate::error::ReadError;
use crate::lineage::Window;

fn identity(kind: LayerKind) -> LayerIdentity {
    let after = if kind == LayerKind::Image { Lsn(300) } else { Lsn(200) };
    LayerIdentity { kind, volume: VolumeId(1), log: LogId(2), group: GroupId(3), after, upto: Lsn(300) }
}

fn open(dir: &std::path::Path, desc: LayerDesc) -> Arc<Layer> {
    let node = NodeMemory::new(0, 1 << 20);
    Arc::new(Layer::new(dir, VolumeId(1), LogId(2), desc, node))
}

fn at(lsn: u64, reference: u32) -> At {
    At { lsn: Lsn(lsn), reference }
}

fn window(after: u64, upto: u64) -> Window {
    Window { log: LogId(2), after: Lsn(after), upto: Lsn(upto) }
}

/// A delta layer with one entry of every kind and a tombstone.
fn small_delta(dir: &std::path::Path) -> LayerDesc {
    let mut writer = LayerWriter::create(dir, identity(LayerKind::Delta), 7).unwrap();
    let delta = Change::Delta { codec: 1, delta: Bytes::from_static(b"\x00\x01x") };
    let block = Key::block(FileKey::inode(2), 1);
    writer.push(Key::inode(2), at(210, 0), &Change::Image(Bytes::from_static(b"v"))).unwrap();
    writer.push(Key::inode(2), at(220, 5), &Change::Delete).unwrap();
    writer.push(block, at(230, 300), &delta).unwrap();
    let mut clears = Clears::default();
    clears.add(block, block.successor(), at(225, 9));
    writer.finish(&clears, None).unwrap()
}

#[test]
fn a_delta_layer_has_these_bytes_in_version_1() {
    let dir = tempfile::tempdir().unwrap();
    let desc = small_delta(dir.path());
    let name = "00000002-00000003-delta-00000000000000c8-000000000000012c-00000007.layer";
    let bytes = std::fs::read(dir.path().join(name)).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let le = |value: u64, len: usize| hex(&value.to_le_bytes()[..len]);
    let crc = |bytes: &[u8]| hex(&crc32c::crc32c(bytes).to_le_bytes());
    let (ino, block) = ("02000000000000000000000000000002", "09000000000000000000000000000002");
    let header = [
        hex(b"ZORYALYR"),
        "0100 01 00 0000 0000".into(),
        "00".repeat(32),
        le(1, 8),
        le(0, 8),
        le(2, 4),
        le(3, 4),
        le(200, 8),
        le(300, 8),
        "00".repeat(36),
        crc(&bytes[..124]),
    ];
    let entries = format!(
        "01 {ino} {zero} 0a 00 01 76  07 14 05  02 {block} {one} 1e ac02 01 03 000178",
        zero = "00".repeat(8),
        one = "0000000000000001"
    );
    let first_block = [le(65, 4), crc(&bytes[136..201]), entries];
    let clear = format!("{block} 0000000000000001 {block} 0000000000000002");
    let clears = [le(64, 4), crc(&bytes[209..273]), le(1, 4), clear, le(225, 8), le(9, 4)];
    let filter = [le(8, 4), crc(&bytes[281..289]), hex(&bytes[281..289])];
    let index = [
        le(52, 4),
        crc(&bytes[297..349]),
        le(1, 4),
        ino.into(),
        "00".repeat(8),
        le(210, 8),
        le(128, 8),
        le(65, 4),
        crc(&bytes[136..201]),
    ];
    let footer = [
        le(201, 8),
        le(64, 4),
        le(273, 8),
        le(8, 4),
        le(289, 8),
        le(52, 4),
        le(4, 8),
        hex(&desc.hash),
        le(0, 8),
        hex(b"ZORYAEND"),
        crc(&bytes[349..441]),
    ];
    let parts = [
        header.concat(),
        first_block.concat(),
        clears.concat(),
        filter.concat(),
        index.concat(),
        footer.concat(),
    ];
    assert_eq!(hex(&bytes), parts.concat().replace(' ', ""));
    let hash = "f899bcf1df56fbdd8d3ac60f69c3fe178c76407ac3cd4406d4349067700aaae1";
    assert_eq!(hex(&desc.hash), hash);
    assert_eq!((desc.entries, desc.bytes), (4, 445));
    assert_eq!((desc.from, desc.to), (Key::inode(2), Key::block(FileKey::inode(2), 2)));
}

#[test]
fn a_reader_of_a_layer_sees_its_window() {
    let dir = tempfile::tempdir().unwrap();
    let layer = open(dir.path(), small_delta(dir.path()));
    let read = |key, after, upto| {
        let mut chain = Chain::default();
        layer.collect(window(after, upto), key, &mut chain).unwrap();
        (chain.is_complete(), chain.resolve(key).unwrap())
    };
    let (ino, block) = (Key::inode(2), Key::block(FileKey::inode(2), 1));
    assert_eq!(read(ino, 200, 209), (false, None));
    assert_eq!(read(ino, 200, 210), (true, Some(Bytes::from_static(b"v"))));
    assert_eq!(read(ino, 200, 300), (true, None));
    assert_eq!(read(ino, 210, 219), (false, None));
    let (complete, value) = read(block, 200, 300);
    assert_eq!((complete, value.map(|value| value[0])), (true, Some(b'x')));
    assert!(!read(block, 225, 300).0);
    assert_eq!(read(block, 200, 229), (true, None));
    assert_eq!(read(Key::inode(3), 200, 300), (false, None));
}

#[test]
fn versions_of_one_key_may_fill_many_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LayerWriter::create(dir.path(), identity(LayerKind::Delta), 1).unwrap();
    let keys = [Key::inode(1), Key::inode(2), Key::inode(3)];
    let value = |number: u8| Change::Image(Bytes::from(vec![number; 10_000]));
    for key in keys {
        (0..90).for_each(|number| writer.push(key, at(205 + u64::from(number), 0), &value(number)).unwrap());
    }
    let layer = open(dir.path(), writer.finish(&Clears::default(), None).unwrap());
    for key in keys {
        for number in [0, 1, 44, 89] {
            let mut chain = Chain::default();
            layer.collect(window(200, 205 + u64::from(number)), key, &mut chain).unwrap();
            assert_eq!(chain.resolve(key).unwrap().unwrap()[..], [number; 10_000][..]);
        }
    }
    let mut iter = layer.iter_from(Key::inode(2)).unwrap();
    let (mut count, mut last) = (0, (Key::MIN, at(0, 0)));
    while let Some((key, at, _)) = iter.next().unwrap() {
        assert!((key, at) > last);
        (count, last) = (count + 1, (key, at));
    }
    assert_eq!(count, 180);
}

#[test]
fn an_image_layer_answers_for_keys_that_it_does_not_hold() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LayerWriter::create(dir.path(), identity(LayerKind::Image), 1).unwrap();
    writer.push(Key::inode(5), at(300, 0), &Change::Image(Bytes::from_static(b"v"))).unwrap();
    let desc = writer.finish(&Clears::default(), Some((Key::MIN, Key::MAX))).unwrap();
    let layer = open(dir.path(), desc);
    for (key, expected) in [(Key::inode(5), Some(Bytes::from_static(b"v"))), (Key::inode(6), None)] {
        let mut chain = Chain::default();
        layer.collect(window(0, 400), key, &mut chain).unwrap();
        assert!(chain.is_complete());
        assert_eq!(chain.resolve(key).unwrap(), expected);
    }
}

#[test]
fn a_layer_that_is_not_the_manifests_is_damaged_and_an_unfinished_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let desc = small_delta(dir.path());
    let other = open(dir.path(), LayerDesc { hash: [0; 32], ..desc.clone() });
    let mut chain = Chain::default();
    let read = other.collect(window(200, 300), Key::inode(2), &mut chain);
    assert!(matches!(read, Err(ReadError::Damaged { .. })));
    let path = dir.path().join(desc.file_name(LogId(2)));
    let layer = open(dir.path(), desc);
    let held = Arc::clone(&layer);
    layer.doom();
    drop(layer);
    assert!(path.exists());
    drop(held);
    assert!(!path.exists());
    drop(LayerWriter::create(dir.path(), identity(LayerKind::Delta), 9).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let content = Bytes::from(bytes);
        let mut entries = super::entry::Entries::new(&content, Lsn(7));
        while let Some(Some(entry)) = entries.next() {
            let _ = entry.change(&content);
        }
        let _ = super::format::decode_index(content.clone());
        let _ = super::format::decode_clears(content.clone());
        if let Some(header) = content.first_chunk() {
            let _ = super::format::decode_header(header);
        }
        if let Some(footer) = content.first_chunk() {
            let _ = super::format::Footer::decode(footer);
        }
    }
}
