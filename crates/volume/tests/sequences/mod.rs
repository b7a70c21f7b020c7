//! Sequences of the reference test over a store in memory: cut short anywhere, opened again, gone on with.
#![allow(dead_code, reason = "each test crate uses a part of it")]

pub mod run;
pub mod search;
pub mod volume_tree;

use proptest::prelude::*;
use zorya_volume::EngineClass;

use crate::reference::operation::Operation;
use crate::reference::random::operation;

/// How a mount ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Unmounted in good order.
    Unmount,
    /// The daemon dies; of what is not durable yet so much of 65,535 parts is in the log that the next one finds.
    Crash(u16),
}

/// What happens on one mount.
#[derive(Clone, Debug)]
pub struct Segment {
    pub operations: Vec<Operation>,
    pub end: End,
}

/// A volume's life, mount after mount.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub class: EngineClass,
    /// How many bytes the log may be ahead of what is durable.
    pub room: u64,
    pub segments: Vec<Segment>,
}

/// Random sequences.
pub fn sequence() -> impl Strategy<Value = Sequence> {
    let class = prop_oneof![Just(EngineClass::None), Just(EngineClass::Postgres)];
    // The smallest has room for the largest record only.
    let room = prop_oneof![3 => Just(u64::MAX), 1 => Just(4 << 20)];
    (class, room).prop_flat_map(|(class, room)| {
        let end = prop_oneof![1 => Just(End::Unmount), 2 => any::<u16>().prop_map(End::Crash)];
        let operations = proptest::collection::vec(operation(class), 1..120);
        let segment = (operations, end).prop_map(|(operations, end)| Segment { operations, end });
        proptest::collection::vec(segment, 1..4).prop_map(move |segments| Sequence { class, room, segments })
    })
}
