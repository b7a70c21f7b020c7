//! What a log record means for the versions of keys: the seam between the page store and the codecs.
//!
//! A record names its codec; the page store asks two things of it and knows nothing else: which keys a payload
//! [`touches`], and what a key's value is after it ([`apply`]). Everything here is pure: bytes in, bytes out. A
//! payload that cannot be read makes a key *underivable*, which is a value for the caller to report; it is never a
//! panic and never a guess.
//!
//! A page store that keeps versions in files keeps for every key only its part of the payload: [`extract`] cuts it
//! out, [`apply_extract`] applies it.

pub mod byte_range;
pub mod postgres;
pub mod varint;

use bytes::{Bytes, BytesMut};
use zorya_types::Key;

/// The payload is empty and touches nothing (the number that the record format gives to heartbeats).
pub const CODEC_NONE: u16 = 0;
/// The payload is a list of operations on keys: [`byte_range`].
pub const CODEC_BYTE_RANGE: u16 = 1;

/// What a record does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Gives the key a whole value; what was there before does not matter.
    Image,
    /// Changes the value that is there (for a block that is absent: zeroes).
    Delta,
    /// Removes the key.
    Delete,
    /// Removes every key from the touched one up to `to`, exclusive.
    Clear {
        /// The exclusive end of the range.
        to: Key,
    },
}

/// One effect of a record. Touches of one payload come in the order in which they take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The key, or the first key of the range of a [`Effect::Clear`].
    pub key: Key,
    /// What happens to it.
    pub effect: Effect,
    /// Where in the payload this is said, to hand back to [`apply`]. Never falls along a payload; two touches of one
    /// key differ in it.
    pub reference: u32,
}

/// Why a value cannot be derived from a payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Underivable {
    /// No codec of that number is known to this binary.
    #[error("codec {0} is not known to this binary: use a newer zorya")]
    UnknownCodec(u16),
    /// The payload is not what its codec promises.
    #[error("the payload is malformed")]
    Malformed(#[from] byte_range::Malformed),
    /// The reference does not point at an operation on that key.
    #[error("nothing at {reference} of the payload changes {key:?}")]
    NotTouched {
        /// The reference.
        reference: u32,
        /// The key.
        key: Key,
    },
    /// The version before has a length that the operation cannot change.
    #[error("the version of {key:?} to change has {len} bytes, a block has 8192")]
    BadBase {
        /// The key.
        key: Key,
        /// How many bytes the version has.
        len: usize,
    },
}

/// What a payload touches, in order.
pub fn touches(codec: u16, payload: &Bytes) -> Result<Vec<Touch>, Underivable> {
    let mut out = Vec::new();
    touches_into(codec, payload, &mut out)?;
    Ok(out)
}

/// Appends what a payload touches to `out`, in order. After an error `out` holds an arbitrary part of it.
pub fn touches_into(codec: u16, payload: &[u8], out: &mut Vec<Touch>) -> Result<(), Underivable> {
    match codec {
        CODEC_NONE => Ok(()),
        CODEC_BYTE_RANGE => Ok(byte_range::touches_into(payload, out)?),
        unknown => Err(Underivable::UnknownCodec(unknown)),
    }
}

/// The value of `key` after the touch at `reference`, which is an [`Effect::Image`] or [`Effect::Delta`]. `base` is
/// the version before; `None` where the key was absent. An image of a whole block or entry shares the payload's
/// buffer.
pub fn apply(
    codec: u16,
    payload: &Bytes,
    reference: u32,
    key: Key,
    base: Option<&[u8]>,
) -> Result<Bytes, Underivable> {
    match extract(codec, payload, reference, key)? {
        Extract::Image(value) => Ok(value),
        Extract::Delta(delta) => {
            apply_extract(codec, &delta, key, base.map(BytesMut::from)).map(BytesMut::freeze)
        }
    }
}

/// What of a payload concerns one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extract {
    /// The whole value.
    Image(Bytes),
    /// A change for [`apply_extract`].
    Delta(Bytes),
}

/// Cuts out of a payload what the touch of `key` at `reference` needs, in the codec's own form for that.
pub fn extract(codec: u16, payload: &Bytes, reference: u32, key: Key) -> Result<Extract, Underivable> {
    match codec {
        CODEC_BYTE_RANGE => byte_range::extract(payload, reference, key),
        unknown => Err(Underivable::UnknownCodec(unknown)),
    }
}

/// Applies the change that [`extract`] cut out to the version before, in place. `None` is an absent key.
pub fn apply_extract(
    codec: u16,
    delta: &[u8],
    key: Key,
    base: Option<BytesMut>,
) -> Result<BytesMut, Underivable> {
    match codec {
        CODEC_BYTE_RANGE => byte_range::apply_delta(delta, key, base),
        unknown => Err(Underivable::UnknownCodec(unknown)),
    }
}
