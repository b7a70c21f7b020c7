//! Random operations.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use zorya_volume::EngineClass;

use super::operation::{Allocation, How, Operation, SLOTS, Span, TARGETS, Writing, paths};

const MODES: [u16; 7] = [0o600, 0o644, 0o755, 0o777, 0, 0o1777, 0o2775];

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        60 => (0u64..20).prop_map(|page| page * 8192),
        20 => (0u64..300).prop_map(|sector| sector * 512),
        30 => 0u64..150_000,
        // Beyond the first extent of 64 MiB.
        1 => (0u64..4).prop_map(|page| (64 << 20) - 8192 + page * 4096),
    ]
}

fn len() -> impl Strategy<Value = u32> {
    prop_oneof![
        40 => (1u32..5).prop_map(|pages| pages * 8192),
        30 => 1u32..700,
        20 => (1u32..20).prop_map(|sectors| sectors * 512),
        10 => 1u32..120_000,
        1 => 1_000_000u32..2_500_000,
        1 => Just(0),
    ]
}

fn span() -> impl Strategy<Value = Span> {
    (offset(), len()).prop_map(|(offset, len)| Span { offset, len })
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![10 => offset(), 3 => Just(0), 5 => (0u64..20).prop_map(|page| page * 8192 + 1)]
}

fn how() -> impl Strategy<Value = How> {
    let one_in = |n: u8| (0..n).prop_map(|chosen| chosen == 0);
    let access = prop_oneof![8 => Just((true, true)), 1 => Just((true, false)), 1 => Just((false, true))];
    (access, one_in(6), one_in(8), (0u8..10).prop_map(|n| n < 9), one_in(25), one_in(5), one_in(12)).prop_map(
        |((read, write), append, truncate, create, exclusive, direct, dsync)| How {
            read,
            write,
            append: append && write,
            truncate: truncate && write,
            create,
            exclusive: exclusive && create,
            direct,
            dsync,
        },
    )
}

fn writing() -> impl Strategy<Value = Writing> {
    prop_oneof![
        14 => Just(Writing::Plain),
        2 => Just(Writing::Dsync),
        4 => (0u16..4096).prop_map(Writing::FromUntouchedMemory),
        2 => Just(Writing::MappedAndSynced),
        2 => Just(Writing::Mapped),
    ]
}

fn allocation() -> impl Strategy<Value = Allocation> {
    prop_oneof![
        Just(Allocation::Extend),
        Just(Allocation::KeepSize),
        Just(Allocation::Punch),
        Just(Allocation::Punch),
        Just(Allocation::Zero),
        Just(Allocation::ZeroKeepSize),
        Just(Allocation::Collapse),
        Just(Allocation::Insert),
    ]
}

/// A random operation on a volume of this class.
pub fn operation(class: EngineClass) -> impl Strategy<Value = Operation> {
    prop_oneof![content_operation(class), content_operation(class), name_operation(class)]
}

/// The operations that a seed stands for.
pub fn operations(class: EngineClass, seed: u64, count: usize) -> Vec<Operation> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let tree = proptest::collection::vec(operation(class), count).new_tree(&mut runner);
    tree.expect("no strategy here rejects anything").current()
}

fn content_operation(class: EngineClass) -> impl Strategy<Value = Operation> {
    let path = move || 0u8..paths(class).len() as u8;
    let slot = || 0u8..SLOTS;
    prop_oneof![
        14 => (slot(), path(), how()).prop_map(|(slot, path, how)| Operation::Open { slot, path, how }),
        1 => slot().prop_map(|slot| Operation::Close { slot }),
        10 => (slot(), span()).prop_map(|(slot, span)| Operation::Read { slot, span }),
        3 => (slot(), span()).prop_map(|(slot, span)| Operation::ReadMapped { slot, span }),
        30 => (slot(), span(), 0u8..20, writing())
            .prop_map(|(slot, span, fill, writing)| Operation::Write { slot, span, fill, writing }),
        3 => (path(), size()).prop_map(|(path, size)| Operation::Truncate { path, size }),
        6 => (slot(), size()).prop_map(|(slot, size)| Operation::TruncateOpen { slot, size }),
        7 => (slot(), span(), allocation())
            .prop_map(|(slot, span, allocation)| Operation::Allocate { slot, span, allocation }),
        2 => slot().prop_map(|slot| Operation::Sync { slot }),
        2 => slot().prop_map(|slot| Operation::SyncData { slot }),
        3 => slot().prop_map(|slot| Operation::StatusOpen { slot }),
        3 => slot().prop_map(|slot| Operation::SeekEnd { slot }),
        4 => (slot(), slot(), span(), offset())
            .prop_map(|(from, to, span, offset)| Operation::CopyRange { from, to, span, offset }),
        2 => (slot(), slot(), span()).prop_map(|(from, to, span)| Operation::SendFile { from, to, span }),
        3 => slot().prop_map(|slot| Operation::Forget { slot }),
        1 => Just(Operation::Flood),
    ]
}

fn name_operation(class: EngineClass) -> impl Strategy<Value = Operation> {
    let path = move || 0u8..paths(class).len() as u8;
    let time = || prop_oneof![Just(None), any::<u32>().prop_map(Some)];
    prop_oneof![
        2 => path().prop_map(|path| Operation::SyncDirectory { path }),
        14 => (path(), path(), (0u8..5).prop_map(|n| n > 0))
            .prop_map(|(from, to, replace)| Operation::Rename { from, to, replace }),
        7 => (path(), path()).prop_map(|(from, to)| Operation::Link { from, to }),
        8 => path().prop_map(|path| Operation::Unlink { path }),
        3 => (path(), 0u8..TARGETS.len() as u8).prop_map(|(path, target)| Operation::Symlink { path, target }),
        2 => path().prop_map(|path| Operation::ReadLink { path }),
        8 => path().prop_map(|path| Operation::MakeDirectory { path }),
        3 => path().prop_map(|path| Operation::RemoveDirectory { path }),
        4 => path().prop_map(|path| Operation::List { path }),
        1 => (path(), 1u8..200).prop_map(|(path, entries)| Operation::ListWhileChanging { path, entries }),
        5 => (path(), proptest::sample::select(&MODES[..]))
            .prop_map(|(path, mode)| Operation::SetMode { path, mode }),
        4 => (path(), 0u8..3, 0u8..3).prop_map(|(path, uid, gid)| Operation::SetOwner { path, uid, gid }),
        5 => (path(), time(), time())
            .prop_map(|(path, access, change)| Operation::SetTimes { path, access, change }),
        5 => path().prop_map(|path| Operation::Status { path }),
    ]
}
