use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use zorya_types::{BLOCK_SIZE, FileKey, Fork, Key};

use super::*;
use crate::{CODEC_BYTE_RANGE, Effect, Touch, Underivable, apply, touches};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_payload_has_these_bytes_in_version_1() {
    let file = FileKey::relation(1663, 5, 16384, Fork::Main);
    let mut encoder = Encoder::new();
    encoder.put(Key::inode(7), b"attrs").delete(Key::dirent(1, 2));
    encoder.write(file, 8192, b"ab").write(file, 8195, b"c").clear(Key::block(file, 3), Key::block(file, 4));
    let payload = encoder.finish();
    let file = "08 0000 0000067f 00000005 00004000 00";
    let expected = format!(
        "01 02000000000000000000000000000007 0000000000000000 05 6174747273\
         02 03000000000000000000000000000001 0000000000000002\
         03 {file} 0200 8040 02 6162 01 01 63\
         04 {file} 0000000000000003 {file} 0000000000000004"
    );
    assert_eq!(hex(&payload), expected.replace(char::is_whitespace, ""));
    let ops = decode(&payload).unwrap();
    assert_eq!(ops.len(), 5);
    assert_eq!(ops[0], Op::Put { key: Key::inode(7), value: Bytes::from_static(b"attrs") });
}

#[test]
fn a_write_touches_every_block_once_and_whole_blocks_are_images() {
    let file = FileKey::inode(9);
    let mut encoder = Encoder::new();
    encoder.write(file, 8190, &[7; 2 + BLOCK_SIZE + 1]).write(file, 3 * 8192 - 10, b"x");
    let payload = encoder.finish();
    let effects: Vec<_> = touches(CODEC_BYTE_RANGE, &payload).unwrap();
    let delta = |block| Touch { key: Key::block(file, block), effect: Effect::Delta, reference: 0 };
    let image = Touch { effect: Effect::Image, ..delta(1) };
    assert_eq!(effects, [delta(0), image, delta(2)]);
    let read =
        |block, base: Option<&[u8]>| apply(CODEC_BYTE_RANGE, &payload, 0, Key::block(file, block), base);
    assert_eq!(read(1, None).unwrap(), vec![7; BLOCK_SIZE]);
    let mut last = vec![1; BLOCK_SIZE];
    last[0] = 7;
    last[BLOCK_SIZE - 10] = b'x';
    assert_eq!(read(2, Some(&[1; BLOCK_SIZE])).unwrap(), last);
    assert_eq!(read(0, None).unwrap()[8189..], [0, 7, 7]);
    assert!(matches!(read(3, None), Err(Underivable::NotTouched { .. })));
    assert!(matches!(read(2, Some(b"short")), Err(Underivable::BadBase { len: 5, .. })));
}

#[test]
fn an_image_shares_the_buffer_of_the_payload() {
    let mut encoder = Encoder::new();
    encoder.write(FileKey::inode(9), 0, &[7; BLOCK_SIZE]);
    let payload = encoder.finish();
    let image = apply(CODEC_BYTE_RANGE, &payload, 0, Key::block(FileKey::inode(9), 0), None).unwrap();
    assert!(payload.as_ptr_range().contains(&image.as_ptr()));
}

#[test]
fn what_no_encoder_writes_is_malformed() {
    let key = [9; 24];
    let bad: [&[u8]; 6] = [
        b"\x09",
        b"\x01",
        &[&[1][..], &key, &[1, 1]].concat(),
        &[2, 1],
        &[&[4][..], &key, &key].concat(),
        &[3, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    ];
    for bytes in bad {
        assert!(decode(&Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
    }
    assert!(matches!(touches(77, &Bytes::new()), Err(Underivable::UnknownCodec(77))));
}

#[derive(Debug, Clone)]
enum Step {
    Put(u64, Vec<u8>),
    Delete(u64),
    Write(u64, u64, Vec<u8>),
    Clear(u64, u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    prop_oneof![
        (0..4_u64, bytes(20)).prop_map(|(ino, value)| Step::Put(ino, value)),
        (0..4_u64).prop_map(Step::Delete),
        (0..2_u64, 0..40_000_u64, bytes(300)).prop_map(|(ino, at, data)| Step::Write(ino, at, data)),
        (0..2_u64, 0..5_u64, 0..6_u64).prop_map(|(ino, block, byte)| {
            Step::Write(ino, block * 8192, vec![byte as u8; 8192 + byte as usize])
        }),
        (0..2_u64, 0..5_u64, 0..5_u64).prop_map(|(ino, from, to)| Step::Clear(ino, from, to)),
    ]
}

fn encode(encoder: &mut Encoder, step: &Step) {
    match step {
        Step::Put(ino, value) => encoder.put(Key::inode(*ino), value),
        Step::Delete(ino) => encoder.delete(Key::inode(*ino)),
        Step::Write(ino, at, data) => encoder.write(FileKey::inode(*ino), *at, data),
        Step::Clear(ino, from, to) => {
            encoder.clear(Key::block(FileKey::inode(*ino), *from), Key::block(FileKey::inode(*ino), *to))
        }
    };
}

fn model(state: &mut BTreeMap<Key, Vec<u8>>, step: &Step) {
    match step {
        Step::Put(ino, value) => drop(state.insert(Key::inode(*ino), value.clone())),
        Step::Delete(ino) => drop(state.remove(&Key::inode(*ino))),
        Step::Write(ino, at, data) => {
            for (index, byte) in data.iter().enumerate() {
                let position = at + index as u64;
                let key = Key::block(FileKey::inode(*ino), position / 8192);
                state.entry(key).or_insert_with(|| vec![0; 8192])[(position % 8192) as usize] = *byte;
            }
        }
        Step::Clear(ino, from, to) => {
            let file = FileKey::inode(*ino);
            state.retain(|key, _| !(Key::block(file, *from)..Key::block(file, *to)).contains(key));
        }
    }
}

/// The state after a payload, by the seam alone.
fn replay(payload: &Bytes) -> BTreeMap<Key, Vec<u8>> {
    let mut state: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
    for Touch { key, effect, reference } in touches(CODEC_BYTE_RANGE, payload).unwrap() {
        match effect {
            Effect::Delete => drop(state.remove(&key)),
            Effect::Clear { to } => state.retain(|held, _| !(key..to).contains(held)),
            Effect::Image | Effect::Delta => {
                let base = state.get(&key).map(Vec::as_slice).filter(|_| effect == Effect::Delta);
                let value = apply(CODEC_BYTE_RANGE, payload, reference, key, base).unwrap();
                assert!(!key.is_block() || value.len() == BLOCK_SIZE);
                state.insert(key, value.to_vec());
            }
        }
    }
    state
}

proptest! {
    #[test]
    fn touches_and_apply_give_what_the_operations_say(steps in prop::collection::vec(step(), 0..12)) {
        let mut encoder = Encoder::new();
        let mut state = BTreeMap::new();
        for step in &steps {
            encode(&mut encoder, step);
            model(&mut state, step);
        }
        let payload = encoder.finish();
        prop_assert_eq!(replay(&payload), state);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), reference in 0..250_u32) {
        let payload = Bytes::from(bytes);
        let _ = decode(&payload);
        let _ = touches(CODEC_BYTE_RANGE, &payload);
        let key = Key::block(FileKey::inode(1), 0);
        let _ = apply(CODEC_BYTE_RANGE, &payload, reference, key, None);
        let _ = crate::apply_extract(CODEC_BYTE_RANGE, &payload, key, None);
    }

    #[test]
    fn a_damaged_payload_is_read_or_refused(steps in prop::collection::vec(step(), 1..6), bit in any::<usize>()) {
        let mut encoder = Encoder::new();
        steps.iter().for_each(|step| encode(&mut encoder, step));
        let mut bytes = encoder.finish().to_vec();
        if !bytes.is_empty() {
            let bit = bit % (bytes.len().min(400) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let payload = Bytes::from(bytes);
        for touch in touches(CODEC_BYTE_RANGE, &payload).unwrap_or_default().iter().take(200) {
            if matches!(touch.effect, Effect::Image | Effect::Delta) {
                let value = apply(CODEC_BYTE_RANGE, &payload, touch.reference, touch.key, None).unwrap();
                prop_assert!(!touch.key.is_block() || value.len() == BLOCK_SIZE);
            }
        }
    }
}
