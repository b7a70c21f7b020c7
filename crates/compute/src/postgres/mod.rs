//! What makes a stock PostgreSQL the engine of a Zorya cluster.
//!
//! * [`settings`]: the parameters that Zorya sets, the ones that it pins, and why.
//! * [`database`]: making the data directory, and judging one that is there.
//! * [`probe`]: whether it answers.

pub mod database;
pub mod probe;
pub mod settings;

use crate::engine::binaries::Product;

/// The superuser and the database that every cluster starts with.
pub const SUPERUSER: &str = "postgres";
/// The major version that this adapter is written for.
pub const MAJOR: &str = "15";

/// PostgreSQL as Debian has it.
pub const PRODUCT: Product = Product {
    name: "PostgreSQL 15",
    package: "postgresql-15",
    user: "postgres",
    server: "postgres",
    directories: &["/usr/lib/postgresql/15/bin"],
    is_version,
};

/// Whether `postgres --version` names the major version, as in `postgres (PostgreSQL) 15.18 (Debian …)`.
fn is_version(text: &str) -> bool {
    text.strip_prefix("postgres (PostgreSQL) ")
        .and_then(|rest| rest.strip_prefix(MAJOR))
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_adapters_version_is_taken() {
        for (text, good) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", true),
            ("postgres (PostgreSQL) 15devel", true),
            ("postgres (PostgreSQL) 150.1", false),
            ("postgres (PostgreSQL) 16.2", false),
            ("", false),
        ] {
            assert_eq!(is_version(text), good, "{text:?}");
        }
    }
}
