//! A Bloom filter over a delta layer's keys: most layers know nothing of a key, and saying so costs no read.

use bytes::Bytes;
use zorya_types::Key;

const BITS_PER_KEY: usize = 10;
const PROBES: u64 = 7;

/// Finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The hash of a key, as the format fixes it.
pub(super) fn hash(key: Key) -> u64 {
    mix(mix(mix((key.hi >> 64) as u64) ^ (key.hi as u64)) ^ key.lo)
}

fn probes(hash: u64, bits: u64) -> impl Iterator<Item = usize> {
    let step = mix(hash) | 1;
    (0..PROBES).map(move |probe| (hash.wrapping_add(probe.wrapping_mul(step)) % bits) as usize)
}

/// The filter of keys with these hashes.
pub(super) fn build(hashes: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0_u8; (hashes.len() * BITS_PER_KEY).div_ceil(8).max(8)];
    let bits = bytes.len() as u64 * 8;
    for &hash in hashes {
        for bit in probes(hash, bits) {
            bytes[bit / 8] |= 1 << (bit % 8);
        }
    }
    bytes
}

/// Whether the key may be in the layer. No filter knows nothing.
pub(super) fn may_contain(filter: &Bytes, key: Key) -> bool {
    let bits = filter.len() as u64 * 8;
    bits == 0 || probes(hash(key), bits).all(|bit| filter[bit / 8] & (1 << (bit % 8)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_there_is_never_denied_and_others_mostly_are() {
        let keys: Vec<Key> = (0..1000).map(|lo| Key { hi: 9 << 120, lo }).collect();
        let filter = Bytes::from(build(&keys.iter().map(|key| hash(*key)).collect::<Vec<_>>()));
        assert!(keys.iter().all(|key| may_contain(&filter, *key)));
        let wrong = (1000..11_000).filter(|&lo| may_contain(&filter, Key { hi: 9 << 120, lo })).count();
        assert!(wrong < 300, "{wrong} of 10,000");
    }

    #[test]
    fn the_hash_of_a_key_is_fixed_by_the_format() {
        assert_eq!(hash(Key { hi: 1 << 120, lo: 2 }), 10_065_580_109_866_006_019);
    }
}
