//! What happened, as a number: two runs of one seed must give the same.

use std::fmt;

/// A running hash (FNV-1a) over every event's text.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    verbose: bool,
}

impl Trace {
    /// An empty trace; a verbose one prints what it takes in.
    pub fn new(verbose: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, verbose }
    }

    /// Takes in an event.
    pub fn note(&mut self, at_us: u64, what: fmt::Arguments<'_>) {
        if self.verbose {
            eprintln!("{:>10.3} ms  {what}", at_us as f64 / 1_000.0);
        }
        // Writing into a hash does not fail.
        let _ = fmt::write(self, format_args!("{at_us} {what}\n"));
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
