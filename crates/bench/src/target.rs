//! The servers as the benchmark sees them: an address and some processes.

use serde::Serialize;
use zorya_compute::region::Engine;

use crate::process::Watched;

/// One of the two that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The engine as the distribution ships it, on the disk.
    Stock,
    /// A cluster of a region.
    Zorya,
}

impl Side {
    /// The word that figures are named with.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Side::Stock => "stock",
            Side::Zorya => "zorya",
        }
    }
}

/// A server under measurement.
pub trait Server {
    /// Which one.
    fn side(&self) -> Side;
    /// Where it listens.
    fn endpoint(&self) -> &Endpoint;
    /// Its processes now.
    fn watched(&self) -> Vec<Watched>;
    /// Syncs that each storage node has done, by its name; nothing for a server without storage nodes.
    fn node_syncs(&self) -> Vec<(String, u64)>;
}

/// An address that a client connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What listens there.
    pub engine: Engine,
    /// The host.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The user's password; `None` where the server trusts.
    pub password: Option<String>,
}

/// Not a URL of the form that `zorya status` prints. The text itself is left out, since it holds a password.
#[derive(Debug, thiserror::Error)]
#[error(
    "the cluster's endpoint is not of the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE or mysql://…"
)]
pub struct BadEndpoint;

impl Endpoint {
    /// Reads `SCHEME://USER[:PASSWORD]@HOST:PORT/DATABASE`. The database is not kept: the benchmark makes its own.
    pub fn parse(url: &str) -> Result<Endpoint, BadEndpoint> {
        let (scheme, rest) = url.split_once("://").ok_or(BadEndpoint)?;
        let engine = match scheme {
            "postgresql" | "postgres" => Engine::Postgres,
            "mysql" | "mariadb" => Engine::Mariadb,
            _ => return Err(BadEndpoint),
        };
        let (credentials, place) = rest.rsplit_once('@').ok_or(BadEndpoint)?;
        let address = place.split(['/', '?']).next().ok_or(BadEndpoint)?;
        let (host, port) = address.rsplit_once(':').ok_or(BadEndpoint)?;
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(percent_decoded(password)?)),
            None => (credentials, None),
        };
        Ok(Endpoint {
            engine,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.parse().map_err(|_| BadEndpoint)?,
            user: percent_decoded(user)?,
            password,
        })
    }
}

fn percent_decoded(text: &str) -> Result<String, BadEndpoint> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|c| char::from(c).to_digit(16)).ok_or(BadEndpoint);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).map_err(|_| BadEndpoint)?);
    }
    String::from_utf8(bytes).map_err(|_| BadEndpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read() {
        let endpoint =
            Endpoint::parse("postgresql://postgres:a%2Fb%40c@127.0.0.1:5433/postgres?sslmode=prefer")
                .unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("127.0.0.1", 5433));
        assert_eq!((endpoint.user.as_str(), endpoint.password.as_deref()), ("postgres", Some("a/b@c")));
        assert_eq!(endpoint.engine, Engine::Postgres);
        let endpoint = Endpoint::parse("mysql://root:p@127.0.0.1:3306/").unwrap();
        assert_eq!((endpoint.engine, endpoint.port), (Engine::Mariadb, 3306));
        let endpoint = Endpoint::parse("postgres://u@[::1]:1").unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.password), ("::1", None));
    }

    #[test]
    fn what_is_no_endpoint_is_refused_without_showing_it() {
        for url in
            ["", "http://x", "postgresql://u:secret@h/db", "postgresql://h:1/db", "postgresql://u:%zz@h:1/"]
        {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{url:?}: {error}");
        }
    }
}
