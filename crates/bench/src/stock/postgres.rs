//! A stock PostgreSQL.

use std::process::Command;

use super::{Place, option};
use crate::clients;

/// What makes its data directory.
pub(super) fn initialise(place: &Place<'_>) -> Command {
    let mut initdb = place.program("initdb");
    initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]);
    initdb.arg(option("pgdata", place.data()));
    initdb
}

/// The server.
pub(super) fn serve(place: &Place<'_>, parameters: &[(String, String)]) -> Command {
    let mut server = place.program("postgres");
    server.arg("-D").arg(place.data());
    let mut set = |name: &str, value: &str| {
        server.args(["-c", &format!("{name}={value}")]);
    };
    set("listen_addresses", &place.endpoint.host);
    set("port", &place.endpoint.port.to_string());
    set("unix_socket_directories", "");
    for (name, value) in parameters {
        set(name, value);
    }
    server
}

/// A client that succeeds once the server answers.
pub(super) fn probe(place: &Place<'_>) -> Command {
    let mut psql = clients::postgres::client(&place.installed.program("psql"), place.endpoint, "postgres");
    psql.args(["-XAtqc", "SELECT 1"]);
    psql
}
