//! Unsigned LEB128: seven bits a byte, low bits first, the top bit says that more follow.

/// Appends `value`.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off the front of `bytes`; `None` if it does not end or does not fit 64 bits.
#[must_use]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_number_reads_back_and_too_long_ones_do_not() {
        for value in [0, 1, 127, 128, 8192, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            super::put(&mut out, value);
            let mut bytes = &out[..];
            assert_eq!(super::take(&mut bytes), Some(value));
            assert!(bytes.is_empty());
        }
        assert_eq!(super::take(&mut &[0xff; 10][..]), None);
        assert_eq!(super::take(&mut &[0x80][..]), None);
    }
}
