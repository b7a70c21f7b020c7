//! Who is at the other end: mutual proof of the region's key, on every connection, even on loopback.
//!
//! ```text
//! client -> server  hello      magic, version, region, client nonce
//! server -> client  challenge  magic, version, region, server nonce, HMAC(key, "server" hello nonce)
//! client -> server  proof      HMAC(key, "client" hello nonce)
//! server -> client  welcome    0, or 1 and nothing more
//! ```
//! HMAC-SHA-256 (RFC 2104). A stranger learns the version and the region's id, and nothing else.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::frame::PROTOCOL_VERSION;

/// Bytes of a nonce, a proof and the region's key.
pub const SECRET_LEN: usize = 32;
/// Bytes of a hello.
pub const HELLO_LEN: usize = 4 + 1 + 16 + SECRET_LEN;
/// Bytes of a challenge.
pub const CHALLENGE_LEN: usize = HELLO_LEN + SECRET_LEN;

const MAGIC: [u8; 4] = *b"ZRYA";

/// The secret that every process of a region shares (a file of mode 0600).
#[derive(Clone)]
pub struct RegionKey {
    /// The region's id: not secret, tells one region's processes from another's.
    pub region: u128,
    /// The secret.
    pub secret: [u8; SECRET_LEN],
}

impl std::fmt::Debug for RegionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegionKey({:032x}, secret withheld)", self.region)
    }
}

/// Why a peer was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// These are not Zorya's bytes.
    #[error("the peer does not speak Zorya's storage protocol")]
    NotZorya,
    /// Another version.
    #[error("the peer speaks protocol {0}, this binary {PROTOCOL_VERSION}: run the same zorya on both sides")]
    OtherVersion(u8),
    /// Another region.
    #[error("the peer belongs to region {theirs:032x}, this process to {ours:032x}: check the addresses")]
    OtherRegion {
        /// The peer's.
        theirs: u128,
        /// Ours.
        ours: u128,
    },
    /// The proof is wrong.
    #[error("the peer does not have this region's key")]
    BadProof,
}

/// The client's first bytes.
#[must_use]
pub fn hello(key: &RegionKey, nonce: &[u8; SECRET_LEN]) -> [u8; HELLO_LEN] {
    let mut out = [0; HELLO_LEN];
    out[..4].copy_from_slice(&MAGIC);
    out[4] = PROTOCOL_VERSION;
    out[5..21].copy_from_slice(&key.region.to_le_bytes());
    out[21..].copy_from_slice(nonce);
    out
}

fn check_opening(key: &RegionKey, bytes: &[u8]) -> Result<(), HandshakeError> {
    if bytes[..4] != MAGIC {
        return Err(HandshakeError::NotZorya);
    }
    if bytes[4] != PROTOCOL_VERSION {
        return Err(HandshakeError::OtherVersion(bytes[4]));
    }
    let mut region = [0; 16];
    region.copy_from_slice(&bytes[5..21]);
    let theirs = u128::from_le_bytes(region);
    if theirs != key.region {
        return Err(HandshakeError::OtherRegion { theirs, ours: key.region });
    }
    Ok(())
}

fn mac(key: &RegionKey, side: &[u8], hello: &[u8; HELLO_LEN], nonce: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length, so this cannot fail; an all-zero key would only make every proof fail.
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&key.secret).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.update(side);
    mac.update(hello);
    mac.update(nonce);
    mac
}

/// The server's answer to a hello.
pub fn challenge(
    key: &RegionKey,
    hello_bytes: &[u8; HELLO_LEN],
    nonce: &[u8; SECRET_LEN],
) -> Result<[u8; CHALLENGE_LEN], HandshakeError> {
    check_opening(key, hello_bytes)?;
    let mut out = [0; CHALLENGE_LEN];
    out[..HELLO_LEN].copy_from_slice(&hello(key, nonce));
    out[HELLO_LEN..].copy_from_slice(&mac(key, b"server", hello_bytes, nonce).finalize().into_bytes());
    Ok(out)
}

/// The client's answer to a challenge, once the server has proved itself.
pub fn proof(
    key: &RegionKey,
    hello_bytes: &[u8; HELLO_LEN],
    challenge: &[u8; CHALLENGE_LEN],
) -> Result<[u8; SECRET_LEN], HandshakeError> {
    check_opening(key, challenge)?;
    let nonce = &challenge[21..HELLO_LEN];
    mac(key, b"server", hello_bytes, nonce)
        .verify_slice(&challenge[HELLO_LEN..])
        .map_err(|_| HandshakeError::BadProof)?;
    Ok(mac(key, b"client", hello_bytes, nonce).finalize().into_bytes().into())
}

/// The server's judgement of a proof, in constant time.
pub fn verify(
    key: &RegionKey,
    hello_bytes: &[u8; HELLO_LEN],
    nonce: &[u8; SECRET_LEN],
    proof: &[u8; SECRET_LEN],
) -> Result<(), HandshakeError> {
    mac(key, b"client", hello_bytes, nonce).verify_slice(proof).map_err(|_| HandshakeError::BadProof)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(region: u128, secret: u8) -> RegionKey {
        RegionKey { region, secret: [secret; SECRET_LEN] }
    }

    fn meet(client: &RegionKey, server: &RegionKey) -> Result<(), HandshakeError> {
        let first = hello(client, &[1; SECRET_LEN]);
        let challenge = challenge(server, &first, &[2; SECRET_LEN])?;
        let proof = proof(client, &first, &challenge)?;
        verify(server, &first, &[2; SECRET_LEN], &proof)
    }

    #[test]
    fn only_holders_of_the_same_key_meet() {
        assert_eq!(meet(&key(1, 7), &key(1, 7)), Ok(()));
        assert_eq!(meet(&key(1, 7), &key(1, 8)), Err(HandshakeError::BadProof));
        assert_eq!(meet(&key(1, 7), &key(2, 7)), Err(HandshakeError::OtherRegion { theirs: 1, ours: 2 }));
    }

    #[test]
    fn a_server_does_not_accept_its_own_challenge_as_a_proof() {
        let key = key(1, 7);
        let first = hello(&key, &[1; SECRET_LEN]);
        let answer = challenge(&key, &first, &[2; SECRET_LEN]).unwrap();
        let mut replayed = [0; SECRET_LEN];
        replayed.copy_from_slice(&answer[HELLO_LEN..]);
        assert_eq!(verify(&key, &first, &[2; SECRET_LEN], &replayed), Err(HandshakeError::BadProof));
    }
}
