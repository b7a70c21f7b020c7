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

/// PostgreSQL as Debian has it, and the majors that this adapter runs from elsewhere.
pub const PRODUCT: Product = Product {
    name: "PostgreSQL",
    mark: "postgresql",
    package: "postgresql-15",
    user: "postgres",
    server: "postgres",
    directories: &["/usr/lib/postgresql/15/bin"],
    series: &["14", "15", "16", "17", "18"],
    read_series,
};

/// The major version in `postgres (PostgreSQL) 15.18 (Debian …)`.
fn read_series(text: &str) -> Option<&str> {
    let version = text.strip_prefix("postgres (PostgreSQL) ")?;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    Some(&version[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_name_its_major() {
        for (text, series) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some("15")),
            ("postgres (PostgreSQL) 17devel", Some("17")),
            ("postgres (PostgreSQL) 150.1", Some("150")),
            ("mysqld  Ver 8.0.36", None),
            ("", None),
        ] {
            assert_eq!(read_series(text), series, "{text:?}");
        }
    }
}
