//! A stock MariaDB. No option file is read, so that nothing of the host makes it less stock.

use std::process::Command;

use super::{Place, option};

/// What makes its data directory. Root needs no password then.
pub(super) fn initialise(place: &Place<'_>) -> Command {
    let mut install = place.program("mariadb-install-db");
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
    install.arg(option("datadir", place.data()));
    install
}

/// The server.
pub(super) fn serve(place: &Place<'_>, parameters: &[(String, String)]) -> Command {
    let mut server = place.program("mariadbd");
    server.arg("--no-defaults").arg(option("datadir", place.data()));
    for (name, file) in [("socket", "mysqld.sock"), ("pid-file", "mysqld.pid")] {
        server.arg(option(name, place.directory.join(file)));
    }
    server.arg(option("bind-address", &place.endpoint.host));
    server.arg(option("port", place.endpoint.port.to_string()));
    server.args(parameters.iter().map(|(name, value)| option(name, value)));
    server
}

/// A client that succeeds once the server answers.
pub(super) fn probe(place: &Place<'_>) -> Command {
    let mut client = Command::new(place.installed.program("mariadb"));
    client.arg("--no-defaults").arg(option("host", &place.endpoint.host));
    client.arg(option("port", place.endpoint.port.to_string()));
    client.arg(option("user", &place.endpoint.user)).args(["-e", "SELECT 1"]);
    client
}
