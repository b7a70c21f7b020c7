//! Crashes, one of them in the middle of a record, and a promotion, in one log.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use zorya_redo::postgres::{BLOCK_LEN, WalPosition};

use super::leg;
use crate::segments::segment_name;
use crate::server::{Server, as_engine, run_quietly};
use crate::totals::Totals;
use crate::{Arguments, SEGMENT_LEN};

const BEFORE: &str = "
create table t (id int primary key, v text);
insert into t select i, repeat('x', i % 100) from generate_series(1, 3000) i;
create sequence s;
select nextval('s');
begin; insert into t values (-1, 'prepared'); savepoint a; insert into t values (-2, 'sub'); prepare transaction 'lasting';
";
const BETWEEN: &str = "
select nextval('s');
update t set v = v || '!' where id % 3 = 0;
insert into t select i, 'between' from generate_series(10001, 12000) i;
begin; insert into t values (-3, 'prepared'); prepare transaction 'second';
";
const AFTER: &str = "
select nextval('s');
delete from t where id % 5 = 0;
vacuum t;
insert into t select i, 'after' from generate_series(20001, 22000) i;
commit prepared 'lasting';
";

/// Bytes of the record that the first crash cuts off: several pages.
const CUT_RECORD_LEN: u64 = 50_000;

/// Runs it.
pub fn run(mut server: Server, arguments: &Arguments, totals: &mut Totals) -> Result<()> {
    server.keep_base()?;
    server.start()?;
    leg::keep_log(&server)?;
    statements(&server, BEFORE)?;
    crash_in_a_record(&mut server)?;
    server.start().context("after a crash in the middle of a record")?;
    statements(&server, BETWEEN)?;
    promote_after_a_crash(&mut server)?;
    statements(&server, AFTER)?;
    server.stop()?;
    leg::verify_and_start(&mut server, arguments, totals)
}

fn statements(server: &Server, sql: &str) -> Result<()> {
    let path = server.dir().join("statements.sql");
    std::fs::write(&path, sql)?;
    run_quietly(server.program("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&path))
}

/// Ends the server while a transaction runs, and takes the log back to a page's end inside of a long record: what a
/// server leaves behind that crashes while it writes one. Nothing of what is lost has come into other files.
fn crash_in_a_record(server: &mut Server) -> Result<()> {
    eprintln!("a crash in the middle of a record");
    let _running = Running::begin(server)?;
    // Room for the record in its segment.
    server.psql("postgres", "select pg_switch_wal()")?;
    let begin: WalPosition = server.psql("postgres", "select pg_current_wal_insert_lsn()")?.parse()?;
    let message = format!("select pg_logical_emit_message(true, 'verify', repeat('x', {CUT_RECORD_LEN}))");
    server.psql("postgres", &message)?;
    server.crash()?;
    let (segment, offset) = (begin.0 / SEGMENT_LEN, begin.0 % SEGMENT_LEN);
    ensure!(offset + 2 * CUT_RECORD_LEN < SEGMENT_LEN, "the record would cross segments");
    let cut = (offset / BLOCK_LEN as u64 + 3) * BLOCK_LEN as u64;
    let path = server.data().join("pg_wal").join(segment_name(1, segment));
    let file = OpenOptions::new().write(true).open(path)?;
    Ok(file.write_all_at(&vec![0; (SEGMENT_LEN - cut) as usize], cut)?)
}

/// Ends the server while a transaction runs, has it recover as a standby, and promotes it.
fn promote_after_a_crash(server: &mut Server) -> Result<()> {
    eprintln!("a promotion after a crash");
    let running = Running::begin(server)?;
    server.crash()?;
    drop(running);
    run_quietly(as_engine("touch").arg(server.data().join("standby.signal")))?;
    server.start().context("as a standby")?;
    server.psql("postgres", "select pg_promote()")?;
    server.wait_for("the standby is not promoted", |server| {
        Ok(server.psql("postgres", "select pg_is_in_recovery()")? == "f")
    })
}

/// A session whose transaction has written something and goes on.
struct Running(Child);

impl Running {
    fn begin(server: &mut Server) -> Result<Self> {
        let mut psql = server.program("psql");
        psql.args(["-X", "-q", "-d", "postgres"]);
        psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut this = Self(psql.spawn()?);
        let input = this.0.stdin.as_mut().context("psql has no input")?;
        input.write_all(
            b"begin; insert into t values (-100, 'lost'); update t set v = 'lost' where id = 7;\n",
        )?;
        let writes = "select count(*) from pg_stat_activity where state = 'idle in transaction' \
                      and backend_xid is not null";
        server.wait_for("the transaction does not begin", |server| {
            Ok(server.psql("postgres", writes)? == "1")
        })?;
        Ok(this)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
