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

/// MariaDB as Debian has it, and the long-term series that this adapter runs from elsewhere.
pub const PRODUCT: Product = Product {
    name: "MariaDB",
    mark: "mariadb",
    package: "mariadb-server-core",
    user: "mysql",
    server: "mariadbd",
    directories: &["/usr/sbin", "/usr/bin"],
    series: &["10.11", "11.4", "11.8"],
    read_series,
};

/// The first two numbers in `/usr/sbin/mariadbd  Ver 10.11.14-MariaDB-0+deb12u2 for …`.
fn read_series(text: &str) -> Option<&str> {
    let mut words = text.split_whitespace().skip_while(|word| *word != "Ver").skip(1);
    let version = words.next().filter(|version| version.contains("MariaDB"))?;
    let (second_dot, _) = version.match_indices('.').nth(1)?;
    Some(&version[..second_dot])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_name_its_series() {
        for (text, series) in [
            (
                "/usr/sbin/mariadbd  Ver 10.11.14-MariaDB-0+deb12u2 for debian-linux-gnu on x86_64 (Debian 12)",
                Some("10.11"),
            ),
            ("mariadbd  Ver 11.8.2-MariaDB for Linux", Some("11.8")),
            ("mysqld  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)", None),
            ("", None),
        ] {
            assert_eq!(read_series(text), series, "{text:?}");
        }
    }
}
