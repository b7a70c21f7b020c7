//! A hash index with so many overflow pages that their first bitmap is full.
//!
//! It is built before the log begins: every key fills a chain of overflow pages exactly. Then each insertion of a key
//! takes another page, the bitmap's last bit among them.

use anyhow::{Result, ensure};

use super::leg;
use crate::Arguments;
use crate::server::Server;
use crate::totals::Totals;

/// Overflow pages that one bitmap tells of (`BMPGSZ_BIT` in `access/hash.h`).
const PAGES_PER_BITMAP: u64 = 32_768;
/// Items on a page of a hash index: 8,152 bytes, 20 an item.
const ITEMS_PER_PAGE: u64 = 407;
/// Overflow pages of each key.
const PAGES_PER_KEY: u64 = 20;

/// Runs it.
pub fn run(mut server: Server, arguments: &Arguments, totals: &mut Totals) -> Result<()> {
    let keys = (PAGES_PER_BITMAP - 400) / PAGES_PER_KEY;
    let rows = keys * ITEMS_PER_PAGE * (PAGES_PER_KEY + 1);
    eprintln!("building a hash index over {rows} rows");
    // Without a log of it.
    let quietly =
        ["wal_level=minimal", "max_wal_senders=0", "wal_consistency_checking=", "maintenance_work_mem=256MB"];
    server.start_with(&quietly.map(|setting| ["-c", setting]).concat())?;
    let build = format!(
        "begin; create table o (k int); insert into o select i % {keys} from generate_series(1, {rows}) i; \
         create index o_k on o using hash (k) with (fillfactor = 100); commit"
    );
    server.psql("postgres", &build)?;
    server.stop()?;
    server.keep_base()?;

    server.start()?;
    leg::keep_log(&server)?;
    server.psql("postgres", "create extension pgstattuple")?;
    let before = bitmaps(&server)?;
    server.psql("postgres", &format!("insert into o select i from generate_series(0, {keys} - 1) i"))?;
    let after = bitmaps(&server)?;
    ensure!((before, after) == (1, 2), "from {before} to {after} bitmaps of overflow pages");
    server.stop()?;
    // The one record that begins a bitmap can take one bug at a time: to be left out, and to be corrupted.
    for _ in 0..if arguments.plant { 2 } else { 1 } {
        let checker = leg::verify(&server, arguments, totals)?;
        totals.add(checker);
    }
    Ok(())
}

fn bitmaps(server: &Server) -> Result<u64> {
    Ok(server.psql("postgres", "select bitmap_pages from pgstathashindex('o_k')")?.parse()?)
}
