//! Both sides in step: every operation on both, equal answers, and the state after each.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zorya_volume::EngineClass;

use super::explain::Between;
use super::locality::Locality;
use super::operation::{Allocation, Operation, Span, Writing};
use super::side::{Answer, Role, Side};
use super::tree::{Times, Tree};

/// How often each kind of operation was done, and how often it failed on both sides alike.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Counts {
    pub done: BTreeMap<&'static str, u64>,
    pub failed_alike: BTreeMap<&'static str, u64>,
    /// Renames and links between local and shipped names, refused by the mount as documented.
    pub refused_local: u64,
}

/// What became of one step.
pub struct Step {
    /// How a crash within it may leave a file.
    pub between: Between,
    /// It promised that everything before it, and itself, is durable.
    pub synced: bool,
    /// The mount died in it: whether it was done there is not known.
    pub died: bool,
}

/// A mounted volume and its reference directory.
pub struct Pair {
    pub mount: Side,
    pub reference: Side,
    class: EngineClass,
    locality: Locality,
    /// The reference at the beginning and after every step.
    pub states: Vec<Tree>,
    /// Set before the mount is killed: from then on its errors are no findings.
    pub killed: Arc<AtomicBool>,
}

impl Pair {
    /// Both directories must hold the same: what the mount found, however the one before it ended.
    pub fn new(mount: &Path, reference: &Path, class: EngineClass) -> std::io::Result<Pair> {
        Tree::remove_scratch(mount)?;
        let mut tree = Tree::of(reference, None)?;
        let locality = Locality::of_found(class, &mut tree);
        Ok(Pair {
            mount: Side::new(mount, Role::Mount, class),
            reference: Side::new(reference, Role::Reference, class),
            class,
            locality,
            states: vec![tree],
            killed: Arc::default(),
        })
    }

    /// The newest state of the reference.
    pub fn state(&self) -> &Tree {
        &self.states[self.states.len() - 1]
    }

    /// Does an operation on both. An error is a finding.
    pub fn step(&mut self, operation: &Operation, counts: &mut Counts) -> Result<Step, String> {
        let operation = &self.adjusted(operation);
        let target = self.target_inode(operation);
        let between = Between::of(operation, target.is_some_and(|inode| self.locality.surely_paged(inode)));
        let mut got = self.mount.perform(operation);
        if got == Err(libc::EXDEV) && self.crosses_locality(operation) {
            counts.refused_local += 1;
            self.states.push(self.state().clone());
            return Ok(Step { between, synced: false, died: false });
        }
        let done = got.as_ref().is_ok_and(|answer| *answer != Answer::Skipped);
        let mut synced = done && (operation.is_sync() || self.is_dsync(operation));
        if got.is_ok() && target.is_some_and(|inode| self.may_hold_back(operation, inode)) {
            got = got.and_then(|answer| self.sync_target(operation).map(|()| answer));
            synced = true;
        }
        let compared = self.compare(operation, got, counts);
        self.observe()?;
        match compared {
            Ok(()) => Ok(Step { between, synced, died: false }),
            Err(_) if self.killed.load(Ordering::SeqCst) => Ok(Step { between, synced: false, died: true }),
            Err(finding) => Err(finding),
        }
    }

    fn compare(
        &mut self,
        operation: &Operation,
        got: Result<Answer, i32>,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let refused_by_design = matches!(
            operation,
            Operation::Allocate { allocation: Allocation::Collapse | Allocation::Insert, .. }
        );
        // The kernel has no request for these that FUSE would pass on.
        if refused_by_design && got == Err(libc::EOPNOTSUPP) {
            *counts.failed_alike.entry(operation.kind()).or_default() += 1;
            return Ok(());
        }
        let expected = self.reference.perform(operation);
        let counted = if got.is_ok() { &mut counts.done } else { &mut counts.failed_alike };
        if got != Ok(Answer::Skipped) {
            *counted.entry(operation.kind()).or_default() += 1;
        }
        if got == expected {
            return Ok(());
        }
        Err(format!("{operation:?}: the mount said {}, the reference {}", shown(&got), shown(&expected)))
    }

    /// Everything below the mount is as below the reference.
    pub fn check_now(&self) -> Result<(), String> {
        let found =
            Tree::of(&self.mount.root, None).map_err(|error| format!("reading the mount: {error}"))?;
        let mut expected = self.state().clone();
        expected.count_directories();
        report("the mount", found.differences(&expected, Times::Exact))
    }

    fn observe(&mut self) -> Result<(), String> {
        let read = Tree::of(&self.reference.root, Some(self.state()));
        let mut tree = read.map_err(|error| format!("reading the reference: {error}"))?;
        self.locality.observe(self.class, &mut tree);
        self.states.push(tree);
        Ok(())
    }

    /// The operation as it can be compared on this pair.
    fn adjusted(&self, operation: &Operation) -> Operation {
        let mut operation = operation.clone();
        if let Operation::Write { slot, span, writing, .. } = &mut operation {
            let inode =
                self.reference.file(*slot).and_then(|file| file.metadata().ok()).map(|meta| meta.ino());
            // A direct write over the largest request is several at once, and a page changed through a mapping is not
            // written in pages: neither says anything about the order of its parts.
            span.len = if self.is_direct(*slot) { span.len.min(512 << 10) } else { span.len };
            if matches!(writing, Writing::Mapped)
                && inode.is_some_and(|inode| self.locality.maybe_paged(inode))
            {
                *writing = Writing::MappedAndSynced;
            }
        }
        operation
    }

    fn flags(&self, slot: u8) -> i32 {
        use std::os::fd::AsFd;
        let Some(file) = self.mount.file(slot) else { return 0 };
        nix::fcntl::fcntl(file.as_fd(), nix::fcntl::FcntlArg::F_GETFL).unwrap_or(0)
    }

    fn is_direct(&self, slot: u8) -> bool {
        self.flags(slot) & libc::O_DIRECT != 0
    }

    fn is_dsync(&self, operation: &Operation) -> bool {
        match operation {
            Operation::Write {
                slot,
                span,
                writing: Writing::Plain | Writing::FromUntouchedMemory(_),
                ..
            } => span.len > 0 && self.flags(*slot) & libc::O_DSYNC != 0,
            _ => false,
        }
    }

    /// The inode, in the reference, of the file whose content an operation changes.
    fn target_inode(&self, operation: &Operation) -> Option<u64> {
        let slot = match *operation {
            Operation::Write { slot, .. } | Operation::Allocate { slot, .. } => slot,
            Operation::CopyRange { to, .. } | Operation::SendFile { to, .. } => to,
            _ => return None,
        };
        self.reference.file(slot)?.metadata().ok().map(|meta| meta.ino())
    }

    /// Whether the mount may hold a part of this write back until it is synced: a page that is not whole.
    fn may_hold_back(&self, operation: &Operation, inode: u64) -> bool {
        let whole = |span: &Span| span.offset.is_multiple_of(8192) && span.len.is_multiple_of(8192);
        self.locality.maybe_paged(inode)
            && match operation {
                Operation::Write { slot, span, .. } => {
                    !whole(span) || self.flags(*slot) & libc::O_APPEND != 0
                }
                Operation::CopyRange { .. } | Operation::SendFile { .. } => true,
                _ => false,
            }
    }

    fn sync_target(&mut self, operation: &Operation) -> Result<(), i32> {
        let slot = match *operation {
            Operation::Write { slot, .. } => slot,
            Operation::CopyRange { to, .. } | Operation::SendFile { to, .. } => to,
            _ => return Ok(()),
        };
        self.mount.perform(&Operation::Sync { slot }).map(drop)
    }

    /// Whether an operation is a rename or link that the mount refuses because one name is local and the other not.
    fn crosses_locality(&self, operation: &Operation) -> bool {
        let (from, to) = match *operation {
            Operation::Rename { from, to, .. } | Operation::Link { from, to } => (from, to),
            _ => return false,
        };
        let local = |path: &Path| {
            fs::symlink_metadata(path).is_ok_and(|meta| self.locality.is_local_inode(meta.ino()))
        };
        let (from, to) = (self.reference.path(from), self.reference.path(to));
        let goes_into_local = to.parent().is_some_and(|parent| {
            fs::metadata(parent).is_ok_and(|meta| self.locality.is_local_inode(meta.ino()))
        });
        local(&from) != goes_into_local
    }
}

/// A finding, unless there are no differences.
pub fn report(what: &str, differences: Vec<String>) -> Result<(), String> {
    match differences.len() {
        0 => Ok(()),
        count => Err(format!("{what} differs in {count}: {}", differences[..count.min(8)].join("; "))),
    }
}

fn shown(answer: &Result<Answer, i32>) -> String {
    match answer {
        Ok(Answer::Bytes(bytes)) => format!("{} bytes, {:016x}", bytes.len(), hash(bytes)),
        Ok(Answer::Names(names)) => {
            let names: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name)).collect();
            format!("{names:?}")
        }
        Ok(answer) => format!("{answer:?}"),
        Err(errno) => format!("{:?}", nix::errno::Errno::from_raw(*errno)),
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
