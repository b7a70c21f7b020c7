//! `zorya-chaos`: faults under load, with a ledger of acknowledged commits. See the library.

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
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

/// Ctrl-C ends every wait, so that the run ends in order; its leftovers are removed. Caught by handlers, not by a blocked
/// mask: the region's processes would inherit the mask and not hear SIGTERM.
fn watch_signals() {
    let watch = async {
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(mut interrupt), Ok(mut terminate)) => loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                eprintln!("zorya-chaos: interrupted; removing what was made");
                wait::interrupt();
            },
            _ => eprintln!("zorya-chaos: Ctrl-C will leave processes behind"),
        }
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => drop(std::thread::spawn(move || runtime.block_on(watch))),
        Err(error) => eprintln!("zorya-chaos: Ctrl-C will leave processes behind: {error}"),
    }
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
