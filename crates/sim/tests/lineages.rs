//! Branches and rewinds read as the oracle says, over real page stores.

use std::path::Path;

use zorya_sim::lineage;

#[test]
fn every_history_reads_as_it_was_written() {
    let memory = Path::new("/dev/shm");
    let mut reads = 0;
    for seed in 0..60 {
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        match lineage::run(seed, dir.path()) {
            Ok(compared) => reads += compared,
            Err(violation) => panic!(
                "seed {seed}: {violation}\n  cargo run -p zorya-sim --release -- --lineage --seed {seed}"
            ),
        }
    }
    assert!(reads > 10_000, "only {reads} reads were compared");
}
