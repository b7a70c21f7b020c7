//! `zorya-chaos`: faults under load, with a ledger of acknowledged commits. See the library.

use std::process::ExitCode;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use zorya_chaos::options::Options;
use zorya_chaos::stage::Stage;
use zorya_chaos::{faults, round, runner, scenarios, wait};

/// The run could not be carried out.
const NOT_CARRIED_OUT: u8 = 3;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        faults::CATALOGUE.iter().for_each(|kind| println!("fault     {}", kind.name));
        scenarios::CATALOGUE.iter().for_each(|scenario| println!("scenario  {}", scenario.name));
        return ExitCode::SUCCESS;
    }
    watch_signals();
    clear_on_panic(&options);
    match runner::run(&options) {
        Ok(mut summary) => {
            let code = summary.conclude();
            summary.print(options.output);
            summary.replays().iter().for_each(|command| eprintln!("chaos: replay with: {command}"));
            ExitCode::from(code)
        }
        Err(error) => {
            eprintln!("zorya-chaos: {}", round::describe(&error));
            ExitCode::from(NOT_CARRIED_OUT)
        }
    }
}

/// Ctrl-C ends every wait, so that the run ends in order; its leftovers are removed.
fn watch_signals() {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    // Before any other thread exists: all inherit the mask, and only the watcher takes the signals.
    if let Err(error) = signals.thread_block() {
        eprintln!("zorya-chaos: Ctrl-C will leave processes behind: {error}");
        return;
    }
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            eprintln!("zorya-chaos: interrupted; removing what was made");
            wait::interrupt();
        }
    });
}

/// A panic of the harness must not leave a region, mounts and namespaces behind.
fn clear_on_panic(options: &Options) {
    let work = options.work.clone();
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        Stage::of(&work).clear();
        std::process::exit(i32::from(NOT_CARRIED_OUT));
    }));
}
