//! What follows records beside blocks: counters, running transactions, origins, files, transaction files, the control
//! file; and the checkpoint that a server starts from.

use zorya_redo::postgres::checkpoint::{Checkpoint, Counters};
use zorya_redo::postgres::control::{self, ControlFile};
use zorya_redo::postgres::decode::record::{Record, decode};
use zorya_redo::postgres::decode::stream::{LogFormat, Next, WalStream};
use zorya_redo::postgres::major::Major;
use zorya_redo::postgres::origins::Origins;
use zorya_redo::postgres::page::Block;
use zorya_redo::postgres::running::RunningXids;
use zorya_redo::postgres::slru::{SlruChange, SlruRedo, SlruRules, is_truncated};
use zorya_redo::postgres::synthesis::{LogEnd, shutdown_checkpoint};
use zorya_redo::postgres::xact::{self, Xact};
use zorya_redo::postgres::{BLOCK_LEN, WalPosition, files, manager};

use super::input;

const MANAGERS: &[u8] = &[
    manager::XLOG,
    manager::XACT,
    manager::SMGR,
    manager::CLOG,
    manager::DBASE,
    manager::TBLSPC,
    manager::MULTIXACT,
    manager::RELMAP,
    manager::STANDBY,
    manager::COMMIT_TS,
    manager::REPLORIGIN,
    manager::LOGICALMSG,
];

/// The control file up to its checksum, where its version is.
const CONTROL_LEN: usize = 288;
const CONTROL_VERSION_AT: usize = 8;

/// Follows the input's records with all that follows records, and makes a control file and a checkpoint of the rest.
pub fn metadata(input: &[u8]) {
    input::MAJORS.into_iter().for_each(|major| of_version(major, input));
}

fn of_version(major: Major, mut input: &[u8]) {
    let choice = input::byte(&mut input);
    let rules = SlruRules { next_offset: choice & 1 != 0, commit_times: choice & 2 != 0 };
    let mut state = State {
        counters: Counters::default(),
        running: RunningXids::default(),
        origins: Origins::default(),
        slru: SlruRedo::new(rules),
        page: Box::new([0; BLOCK_LEN]),
        parameters: Vec::new(),
    };
    for _ in 0..choice >> 2 {
        let Some(bytes) = input::record(&mut input, MANAGERS) else { break };
        let mut references = Vec::new();
        if let Ok(record) = decode(input::raw(major, &bytes), &mut references) {
            state.follow(&record);
        }
    }
    assert_eq!(Origins::read(&state.origins.file()), state.origins, "origins read back");
    let _ = Origins::read(input).file();
    let _ = ControlFile::read(major, input);
    start(major, &state, input);
}

struct State {
    counters: Counters,
    running: RunningXids,
    origins: Origins,
    slru: SlruRedo,
    page: Box<Block>,
    parameters: Vec<u8>,
}

impl State {
    fn follow(&mut self, record: &Record<'_>) {
        let _ = self.counters.observe(record);
        let _ = self.running.observe(record);
        let _ = self.origins.observe(record);
        let _ = files::changes(record, drop);
        let page = &mut self.page;
        let _ = self.slru.changes(record, |change| apply(change, page));
        if let Ok(Some((checkpoint, _))) = Checkpoint::of(record) {
            assert_eq!(Checkpoint::read(&checkpoint.bytes()), Ok(checkpoint), "a checkpoint reads back");
        }
        if record.manager == manager::XACT
            && let Ok(Xact::Prepare(prepared)) = xact::read(record)
        {
            assert_eq!(prepared.file().len(), prepared.state.len() + 4);
            assert!(matches!(prepared.file_name(record.major, self.counters.next_xid).len(), 8 | 16));
        }
        if (record.manager, record.operation()) == (manager::XLOG, 0x60) {
            self.parameters = record.main().to_vec();
        }
    }
}

fn apply(change: SlruChange, page: &mut Block) {
    match change {
        SlruChange::Truncate(slru, cutoff) => {
            for segment in [0, 1, cutoff / 32, 0x07ff_ffff] {
                let _ = is_truncated(slru, cutoff, segment);
            }
        }
        other => {
            assert_eq!(other.page().is_none(), matches!(other, SlruChange::TruncateMembers(..)));
            other.apply(page);
        }
    }
}

/// The control file with which a server starts names the checkpoint, whose record is found in the log after its end.
fn start(major: Major, state: &State, input: &[u8]) {
    let mut file = vec![0; CONTROL_LEN];
    let len = input.len().min(CONTROL_LEN);
    file[..len].copy_from_slice(&input[..len]);
    file[CONTROL_VERSION_AT..CONTROL_VERSION_AT + 4].copy_from_slice(&control::version(major).to_le_bytes());
    let crc = crc32c::crc32c(&file);
    file.extend_from_slice(&crc.to_le_bytes());
    let mut control =
        ControlFile::read(major, &file).expect("a file of that version whose checksum is right");
    let _ = control.set_parameters(&state.parameters);
    let (Ok(before), position) = (control.checkpoint(), control.checkpoint_position()) else {
        panic!("every file holds a checkpoint")
    };
    let format = LogFormat { major, segment_len: 1 << 20 };
    // The log ends behind a page's header, or with a page.
    let end = WalPosition((position.0 % (1 << 40)).next_multiple_of(8) + (2 << 20));
    let inside_header = (1..40).contains(&end.page_offset());
    let end = if inside_header { end.after(40) } else { end };
    let ended =
        LogEnd { format, system_identifier: control.system_identifier(), last: WalPosition(end.0 - 8), end };
    let appended = shutdown_checkpoint(&ended, Checkpoint { counters: state.counters, ..before });
    let file = control.starting_at(appended.start, &appended.checkpoint);
    let control = ControlFile::read(major, &file).expect("a file that was just written");
    assert_eq!(control.checkpoint(), Ok(appended.checkpoint));
    assert_eq!(control.checkpoint_position(), appended.start);
    let mut stream = WalStream::new(format, end);
    let Ok(Next::Record(raw)) = stream.next(&mut &appended.bytes[..]) else {
        panic!("the checkpoint's record is in the log")
    };
    let mut references = Vec::new();
    let record = decode(raw, &mut references).expect("a checkpoint's record");
    assert_eq!(Checkpoint::of(&record), Ok(Some((appended.checkpoint, true))));
    assert_eq!(record.start, appended.start);
}
