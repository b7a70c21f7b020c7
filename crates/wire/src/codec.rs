//! Reading and writing little-endian fields without trusting them.

use bytes::{BufMut, Bytes, BytesMut};
use zorya_types::{
    Annulled, Epoch, GroupId, Incarnation, Key, Lineage, LogId, Lsn, Member, Membership, NodeId, Profile,
    Slot, Span, Truncation, VolumeId,
};

/// A message that does not hold what its kind promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes ended inside a field.
    #[error("the message ends inside the field {0}")]
    Truncated(&'static str),
    /// A field holds a value that it cannot have.
    #[error("the field {field} cannot be {value}")]
    BadValue {
        /// The field.
        field: &'static str,
        /// What it held.
        value: u64,
    },
    /// Bytes are left over after the last field.
    #[error("{0} bytes are left over after the message")]
    Leftover(usize),
    /// A text is not UTF-8.
    #[error("the field {0} is not UTF-8")]
    NotText(&'static str),
}

/// Takes fields off the front of a buffer. Byte strings share the buffer, they are not copied.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
}

impl Reader {
    /// Starts at the front of `bytes`.
    #[must_use]
    pub fn new(bytes: Bytes) -> Reader {
        Reader { bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Takes `len` bytes.
    pub fn take(&mut self, len: usize, field: &'static str) -> Result<Bytes, Malformed> {
        if self.bytes.len() < len {
            return Err(Malformed::Truncated(field));
        }
        Ok(self.bytes.split_to(len))
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let taken = self.take(N, field)?;
        let mut array = [0; N];
        array.copy_from_slice(&taken);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(field)?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    /// Four bytes.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    /// Eight bytes.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// Sixteen bytes.
    pub fn u128(&mut self, field: &'static str) -> Result<u128, Malformed> {
        Ok(u128::from_le_bytes(self.array(field)?))
    }

    /// 0 or 1.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, Malformed> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(Malformed::BadValue { field, value: value.into() }),
        }
    }

    /// A position.
    pub fn lsn(&mut self, field: &'static str) -> Result<Lsn, Malformed> {
        self.u64(field).map(Lsn)
    }

    /// A length (4 bytes) and that many bytes.
    pub fn bytes(&mut self, field: &'static str) -> Result<Bytes, Malformed> {
        let len = self.u32(field)? as usize;
        self.take(len, field)
    }

    /// A text, length first.
    pub fn text(&mut self, field: &'static str) -> Result<String, Malformed> {
        String::from_utf8(self.bytes(field)?.to_vec()).map_err(|_| Malformed::NotText(field))
    }

    /// A key, 24 bytes big-endian.
    pub fn key(&mut self, field: &'static str) -> Result<Key, Malformed> {
        Ok(Key::decode(&self.array(field)?))
    }

    /// A count (4 bytes) and that many items. The count is checked against the bytes left before anything is
    /// allocated, so `least` is the smallest size an item can have.
    pub fn list<T>(
        &mut self,
        field: &'static str,
        least: usize,
        mut item: impl FnMut(&mut Reader) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.u32(field)? as usize;
        if count > self.remaining() / least.max(1) {
            return Err(Malformed::Truncated(field));
        }
        (0..count).map(|_| item(self)).collect()
    }

    /// A flag and, if it is 1, an item.
    pub fn option<T>(
        &mut self,
        field: &'static str,
        item: impl FnOnce(&mut Reader) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.bool(field)? { item(self).map(Some) } else { Ok(None) }
    }

    /// Fails if anything is left.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed::Leftover(self.bytes.len())) }
    }
}

/// A value with one encoding, used inside messages and files alike.
pub trait Encoded: Sized {
    /// Appends the encoding.
    fn put(&self, out: &mut BytesMut);
    /// Takes the encoding off the front.
    fn get(reader: &mut Reader) -> Result<Self, Malformed>;
}

/// Appends a length (4 bytes) and the bytes.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

/// Appends a count (4 bytes) and the items.
pub fn put_list<T>(out: &mut BytesMut, items: &[T], mut put: impl FnMut(&T, &mut BytesMut)) {
    out.put_u32_le(items.len() as u32);
    for item in items {
        put(item, out);
    }
}

/// Appends a flag and, if there is one, the item.
pub fn put_option<T>(out: &mut BytesMut, item: Option<&T>, put: impl FnOnce(&T, &mut BytesMut)) {
    out.put_u8(u8::from(item.is_some()));
    if let Some(item) = item {
        put(item, out);
    }
}

macro_rules! encoded_number {
    ($($name:ident, $put:ident, $get:ident;)*) => {$(
        impl Encoded for $name {
            fn put(&self, out: &mut BytesMut) {
                out.$put(self.0);
            }
            fn get(reader: &mut Reader) -> Result<Self, Malformed> {
                reader.$get(stringify!($name)).map($name)
            }
        }
    )*};
}

encoded_number! {
    Lsn, put_u64_le, u64;
    Epoch, put_u64_le, u64;
    LogId, put_u32_le, u32;
    GroupId, put_u32_le, u32;
    Slot, put_u8, u8;
    Incarnation, put_u64_le, u64;
    VolumeId, put_u128_le, u128;
}

impl Encoded for Key {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.encode());
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.key("key")
    }
}

impl Encoded for Annulled {
    fn put(&self, out: &mut BytesMut) {
        self.epoch.put(out);
        self.cut.put(out);
        self.first.put(out);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Annulled { epoch: Epoch::get(reader)?, cut: Lsn::get(reader)?, first: Lsn::get(reader)? })
    }
}

impl Encoded for Truncation {
    fn put(&self, out: &mut BytesMut) {
        put_list(out, self.history(), Annulled::put);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let history = reader.list("annulled", 24, Annulled::get)?;
        let count = history.len() as u64;
        Truncation::from_history(history).ok_or(Malformed::BadValue { field: "annulled", value: count })
    }
}

impl Encoded for Profile {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.name.as_bytes());
        for count in [self.replicas, self.write_quorum, self.read_quorum, self.zones] {
            out.put_u8(count);
        }
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let profile = Profile {
            name: reader.text("profile name")?,
            replicas: reader.u8("replicas")?,
            write_quorum: reader.u8("write quorum")?,
            read_quorum: reader.u8("read quorum")?,
            zones: reader.u8("zones")?,
        };
        if !profile.is_sound() {
            return Err(Malformed::BadValue { field: "write quorum", value: profile.write_quorum.into() });
        }
        Ok(profile)
    }
}

impl Encoded for Member {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.node.0.as_bytes());
        self.incarnation.put(out);
        put_bytes(out, self.zone.as_bytes());
        put_bytes(out, self.address.as_bytes());
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Member {
            node: NodeId(reader.text("node")?),
            incarnation: Incarnation::get(reader)?,
            zone: reader.text("zone")?,
            address: reader.text("address")?,
        })
    }
}

impl Encoded for Membership {
    fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.generation);
        self.profile.put(out);
        put_list(out, &self.members, Member::put);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let membership = Membership {
            generation: reader.u64("generation")?,
            profile: Profile::get(reader)?,
            members: reader.list("members", 20, Member::get)?,
        };
        if membership.members.len() != usize::from(membership.profile.replicas) {
            return Err(Malformed::BadValue { field: "members", value: membership.members.len() as u64 });
        }
        Ok(membership)
    }
}

impl Encoded for Lineage {
    fn put(&self, out: &mut BytesMut) {
        put_list(out, self.spans(), |span, out| {
            span.log.put(out);
            span.from.put(out);
            span.to.put(out);
        });
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let spans = reader.list("spans", 20, |reader| {
            Ok(Span { log: LogId::get(reader)?, from: Lsn::get(reader)?, to: Lsn::get(reader)? })
        })?;
        let count = spans.len() as u64;
        Lineage::from_spans(spans).ok_or(Malformed::BadValue { field: "spans", value: count })
    }
}

macro_rules! encoded_plain {
    ($($name:ty, $put:ident, $get:ident;)*) => {$(
        impl Encoded for $name {
            fn put(&self, out: &mut BytesMut) {
                out.$put(*self);
            }
            fn get(reader: &mut Reader) -> Result<Self, Malformed> {
                reader.$get(stringify!($name))
            }
        }
    )*};
}

encoded_plain! {
    u8, put_u8, u8;
    u32, put_u32_le, u32;
    u64, put_u64_le, u64;
    u128, put_u128_le, u128;
}

impl Encoded for bool {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.bool("flag")
    }
}

impl Encoded for Bytes {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.bytes("bytes")
    }
}

impl Encoded for String {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.as_bytes());
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.text("text")
    }
}

impl Encoded for NodeId {
    fn put(&self, out: &mut BytesMut) {
        self.0.put(out);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        String::get(reader).map(NodeId)
    }
}

impl<T: Encoded> Encoded for Option<T> {
    fn put(&self, out: &mut BytesMut) {
        put_option(out, self.as_ref(), T::put);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.option("option", T::get)
    }
}

impl<T: Encoded> Encoded for Vec<T> {
    fn put(&self, out: &mut BytesMut) {
        put_list(out, self, T::put);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.list("list", 1, T::get)
    }
}

impl<A: Encoded, B: Encoded> Encoded for (A, B) {
    fn put(&self, out: &mut BytesMut) {
        self.0.put(out);
        self.1.put(out);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok((A::get(reader)?, B::get(reader)?))
    }
}

/// Declares structs whose encoding is their fields' encodings in order.
#[macro_export]
macro_rules! encoded_struct {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$fdoc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }

        impl $crate::codec::Encoded for $name {
            fn put(&self, out: &mut bytes::BytesMut) {
                let _ = &out;
                $($crate::codec::Encoded::put(&self.$field, out);)*
            }
            fn get(reader: &mut $crate::codec::Reader) -> Result<Self, $crate::codec::Malformed> {
                let _ = &reader;
                Ok($name { $($field: $crate::codec::Encoded::get(reader)?,)* })
            }
        }
    };
}

/// Declares an enum encoded as a tag byte and the variant's one struct.
#[macro_export]
macro_rules! encoded_enum {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$vdoc:meta])* $variant:ident($type:ty) = $tag:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant($type),)* }

        impl $crate::codec::Encoded for $name {
            fn put(&self, out: &mut bytes::BytesMut) {
                match self {
                    $($name::$variant(body) => {
                        $crate::codec::Encoded::put(&($tag as u8), out);
                        $crate::codec::Encoded::put(body, out);
                    })*
                }
            }
            fn get(reader: &mut $crate::codec::Reader) -> Result<Self, $crate::codec::Malformed> {
                match reader.u8(stringify!($name))? {
                    $($tag => Ok($name::$variant($crate::codec::Encoded::get(reader)?)),)*
                    value => Err($crate::codec::Malformed::BadValue { field: stringify!($name), value: value.into() }),
                }
            }
        }
        $(impl From<$type> for $name { fn from(body: $type) -> Self { $name::$variant(body) } })*
    };
}
