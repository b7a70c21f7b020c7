//! What makes a stock MariaDB the engine of a Zorya cluster.
//!
//! * [`settings`]: the parameters that Zorya sets, the ones that it pins, and why.
//! * [`database`]: making the data directory.
//! * [`probe`]: whether it answers.

pub mod database;
pub mod probe;
pub mod settings;

use crate::engine::binaries::Product;

/// The superuser that every cluster starts with.
pub const SUPERUSER: &str = "root";
/// The version that this adapter is written for.
pub const VERSION: &str = "10.11";

/// MariaDB as Debian has it.
pub const PRODUCT: Product = Product {
    name: "MariaDB 10.11",
    package: "mariadb-server-core",
    user: "mysql",
    server: "mariadbd",
    directories: &["/usr/sbin", "/usr/bin"],
    is_version,
};

/// Whether `mariadbd --version` names the version, as in `/usr/sbin/mariadbd  Ver 10.11.14-MariaDB-0+deb12u2 for …`.
fn is_version(text: &str) -> bool {
    let mut words = text.split_whitespace().skip_while(|word| *word != "Ver").skip(1);
    words.next().is_some_and(|version| {
        version.contains("MariaDB")
            && version.strip_prefix(VERSION).is_some_and(|rest| rest.starts_with(['.', '-']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_adapters_version_is_taken() {
        for (text, good) in [
            (
                "/usr/sbin/mariadbd  Ver 10.11.14-MariaDB-0+deb12u2 for debian-linux-gnu on x86_64 (Debian 12)",
                true,
            ),
            ("mariadbd  Ver 10.110.1-MariaDB for Linux", false),
            ("mariadbd  Ver 11.8.2-MariaDB for Linux", false),
            ("mysqld  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)", false),
            ("", false),
        ] {
            assert_eq!(is_version(text), good, "{text:?}");
        }
    }
}
