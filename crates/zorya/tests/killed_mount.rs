//! A mount daemon over six real storage nodes is killed with SIGKILL while files change under it: the volume that the
//! next daemon shows is what some prefix of the operations left, and that prefix holds everything up to the last sync
//! that returned.
//!
//! The operations are those of the volume's reference test. `ZORYA_REFERENCE_SEED` and `ZORYA_REFERENCE_KILLS` choose
//! others and more. Needs root and /dev/fuse; without them it says so and passes.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

#[path = "../../volume/tests/reference/mod.rs"]
mod reference;
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use reference::explain::{Between, unexplained};
use reference::operation::beginning;
use reference::pair::{Counts, Pair};
use reference::random::operations;
use reference::tree::Tree;
use support::{PlainMount, Region, eventually};
use zorya_storage::client::{CreateOptions, Placement, create_volume};
use zorya_types::{NodeId, Profile, VolumeId};
use zorya_volume::EngineClass;

const CLASS: EngineClass = EngineClass::Postgres;
const KILLS: u64 = 8;
/// More than a daemon lives to see.
const OPERATIONS: usize = 600;

/// A new volume on the region's nodes.
fn create(region: &Region) -> String {
    let desired = region.desired();
    let text = |node: &serde_json::Value, field: &str| node[field].as_str().unwrap().to_owned();
    let nodes = desired["nodes"].as_array().unwrap().iter().map(|node| Placement {
        node: NodeId(text(node, "id")),
        zone: text(node, "zone"),
        address: text(node, "listen"),
    });
    let volume = VolumeId(0x5eed);
    let options = CreateOptions {
        volume,
        profile: Profile::named("6/3az").unwrap(),
        nodes: nodes.collect(),
        key: zorya_compute::key::read(&region.home().join("region.key")).unwrap(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(create_volume(&options)).unwrap();
    volume.to_string()
}

/// The states of the reference, how a crash within each step may leave a file, and the last step that was synced.
struct Life {
    states: Vec<Tree>,
    between: Vec<Between>,
    synced: usize,
}

/// Does operations in a thread that sees the mount, until it dies.
fn live(
    mount: &Arc<std::sync::Mutex<PlainMount>>,
    reference: &Path,
    seed: u64,
    killed: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> thread::JoinHandle<Result<Life, String>> {
    let (mount, reference) = (Arc::clone(mount), reference.to_owned());
    thread::spawn(move || {
        let root = {
            let mount = mount.lock().unwrap();
            mount.enter();
            mount.path("")
        };
        let mut pair = Pair::new(&root, &reference, CLASS).map_err(|error| error.to_string())?;
        pair.killed = killed;
        pair.check_now()?;
        let mut life = Life { states: Vec::new(), between: vec![Between::Atomic], synced: 0 };
        // A file that is mapped when its file system dies takes the test with it.
        let others =
            operations(CLASS, seed, OPERATIONS).into_iter().filter(|operation| !operation.is_mapped());
        for (number, operation) in beginning(CLASS).into_iter().chain(others).enumerate() {
            let step = pair.step(&operation, &mut Counts::default());
            let step = step.map_err(|finding| format!("step {}: {finding}", number + 1))?;
            life.between.push(step.between);
            if step.synced {
                life.synced = number + 1;
            }
            done.store(number + 1, Ordering::SeqCst);
            if step.died {
                pair.mount.close_all();
                life.states = std::mem::take(&mut pair.states);
                return Ok(life);
            }
        }
        Err("the mount outlived every operation".to_owned())
    })
}

/// Reads everything below a mount, in a thread that sees it.
fn read(mount: &PlainMount) -> Tree {
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            mount.enter();
            Tree::of(&mount.path(""), None).unwrap().without_scratch()
        });
        reading.join().unwrap()
    })
}

/// Which step's state was found. Panics if none's from the last sync on.
fn check(found: &Tree, life: &Life, what: &str) -> usize {
    let durable: Vec<Tree> = life.states.iter().map(Tree::durable).collect();
    let mut newest = Vec::new();
    for step in (life.synced..durable.len()).rev() {
        let before = &durable[step.saturating_sub(1).max(life.synced)];
        let reasons = unexplained(found, before, &durable[step], life.between[step]);
        if reasons.is_empty() {
            return step;
        }
        if newest.is_empty() {
            newest = reasons;
        }
    }
    panic!(
        "{what}: no state from step {} to {} explains what was found; the last does not because: {newest:?}",
        life.synced,
        durable.len() - 1
    );
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn what_a_killed_mount_leaves_is_a_prefix_of_what_was_done() {
    let Some(region) = Region::new() else { return };
    // A tmpfs for reference directories, seen by every daemon that is started from here.
    zorya_volume::mount::enter_private_namespace().unwrap();
    let references = tempfile::tempdir().unwrap();
    mount(Some("tmpfs"), references.path(), Some("tmpfs"), MsFlags::MS_NOATIME, None::<&str>).unwrap();
    region.run(&["up", "--detach", "--no-cluster"]);
    let volume = create(&region);
    let seed = number("ZORYA_REFERENCE_SEED", 1);
    let mut found: Option<Tree> = None;
    for kill in 0..number("ZORYA_REFERENCE_KILLS", KILLS) {
        let what = format!("ZORYA_REFERENCE_SEED={seed}, kill {kill}");
        let reference: PathBuf = references.path().join(kill.to_string());
        std::fs::create_dir(&reference).unwrap();
        if let Some(found) = &found {
            found.write_to(&reference).unwrap();
        }
        let daemon = Arc::new(std::sync::Mutex::new(PlainMount::of_volume(&region, &volume, "postgres")));
        let (killed, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let life = live(&daemon, &reference, seed * 1000 + kill, Arc::clone(&killed), Arc::clone(&done));
        // At a step of the seed's choosing, and somewhere within it or the next.
        let last = 20 + (seed * 7919 + kill * 104_729) as usize % (OPERATIONS / 2);
        eventually("the operations", || {
            (life.is_finished() || done.load(Ordering::SeqCst) >= last).then_some(())
        });
        thread::sleep(Duration::from_micros(kill * 137 % 1000));
        killed.store(true, Ordering::SeqCst);
        daemon.lock().unwrap().kill();
        let life = life.join().unwrap().unwrap_or_else(|finding| panic!("{what}: {finding}"));
        drop(daemon);
        let mount = PlainMount::of_volume(&region, &volume, "postgres");
        let tree = read(&mount);
        let step = check(&tree, &life, &what);
        println!("{what}: {} steps, synced at {}, found {step}", life.states.len() - 1, life.synced);
        found = Some(tree);
    }
}
