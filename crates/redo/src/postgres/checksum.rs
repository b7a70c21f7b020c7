//! The checksums of data pages. Ported from `src/include/storage/checksum_impl.h`.

use super::page::{Block, Page};

const LANES: usize = 32;
const PRIME: u32 = 16_777_619;
const AT_CHECKSUM: usize = 8;

const BASES: [u32; LANES] = [
    0x5b1f_36e9,
    0xb852_5960,
    0x02ab_50aa,
    0x1de6_6d2a,
    0x79ff_467a,
    0x9bb9_f8a3,
    0x217e_7cd2,
    0x83e1_3d2c,
    0xf8d4_474f,
    0xe39e_b970,
    0x42c6_ae16,
    0x9932_16fa,
    0x7b09_3b5d,
    0x98da_ff3c,
    0xf718_902a,
    0x0b1c_9cdb,
    0xe58f_764b,
    0x1876_36bc,
    0x5d7b_3bb1,
    0xe73d_e7de,
    0x92be_c979,
    0xcca6_c0b2,
    0x304a_0979,
    0x85aa_43d4,
    0x7831_25bb,
    0x6ca8_eaa2,
    0xe407_eac6,
    0x4b5c_fc3e,
    0x9fbf_8c76,
    0x15ca_20be,
    0xf2ca_9fd3,
    0x959b_d756,
];

fn mix(sum: u32, value: u32) -> u32 {
    let mixed = sum ^ value;
    mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
}

/// The checksum that belongs into the header of `block`, the block of that number. Follows `pg_checksum_page`.
#[must_use]
pub fn checksum(block: &Block, number: u32) -> u16 {
    let mut sums = BASES;
    for (row, bytes) in block.chunks_exact(LANES * 4).enumerate() {
        for (lane, word) in bytes.chunks_exact(4).enumerate() {
            let mut word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            if row == 0 && lane == AT_CHECKSUM / 4 {
                // The checksum itself counts as zero.
                word &= 0xffff_0000;
            }
            sums[lane] = mix(sums[lane], word);
        }
    }
    let sum = sums.into_iter().map(|sum| mix(mix(sum, 0), 0)).fold(0, |all, sum| all ^ sum);
    ((sum ^ number) % 65_535 + 1) as u16
}

/// Writes the checksum into a page that is about to be served. A page that was never initialised has none. Follows
/// `PageSetChecksumInplace` in `storage/page/bufpage.c`.
pub fn set_checksum(block: &mut Block, number: u32) {
    let sum = if Page::new(block).is_new() { 0 } else { checksum(block, number) };
    block[AT_CHECKSUM..AT_CHECKSUM + 2].copy_from_slice(&sum.to_le_bytes());
}

/// Whether the checksum in the page is right.
#[must_use]
pub fn is_right(block: &Block, number: u32) -> bool {
    let stored = u16::from_le_bytes([block[AT_CHECKSUM], block[AT_CHECKSUM + 1]]);
    stored == checksum(block, number)
}
