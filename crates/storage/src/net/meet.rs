//! Connecting and accepting, with the handshake of `zorya_wire::handshake`.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use zorya_wire::handshake::{self, CHALLENGE_LEN, HELLO_LEN, HandshakeError, RegionKey, SECRET_LEN};

use super::stream::{self, Stream, peer_name};

/// How long a handshake may take: a peer that is stopped accepts connections (its kernel does) and says nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The network's reason.
    #[error("cannot reach {address}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The peer is not one of ours.
    #[error("{address} was turned away, or turned this process away")]
    Refused {
        /// Where.
        address: String,
        /// Why.
        source: HandshakeError,
    },
}

fn nonce() -> [u8; SECRET_LEN] {
    rand::random()
}

/// Connects to `address` (`host:port`) and proves the region's key both ways.
pub async fn connect(address: &str, key: &RegionKey) -> Result<Stream, ConnectError> {
    if let Some(local) = stream::connect_local(address).await
        && let Ok(met) = met(local, address, key).await
    {
        return Ok(met);
    }
    let unreachable = |source| ConnectError::Unreachable { address: address.to_owned(), source };
    let late = |_| unreachable(io::ErrorKind::TimedOut.into());
    let tcp = timeout(PATIENCE, stream::connect_tcp(address)).await.map_err(late)?.map_err(unreachable)?;
    met(tcp, address, key).await
}

async fn met(mut stream: Stream, address: &str, key: &RegionKey) -> Result<Stream, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable { address: address.to_owned(), source };
    let late = |_| unreachable(io::ErrorKind::TimedOut.into());
    match timeout(PATIENCE, introduce(&mut stream, key)).await.map_err(late)?.map_err(unreachable)? {
        Ok(()) => Ok(stream),
        Err(source) => Err(ConnectError::Refused { address: address.to_owned(), source }),
    }
}

async fn introduce(stream: &mut Stream, key: &RegionKey) -> io::Result<Result<(), HandshakeError>> {
    let hello = handshake::hello(key, &nonce());
    stream.write_all(&hello).await?;
    let mut challenge = [0; CHALLENGE_LEN];
    stream.read_exact(&mut challenge).await?;
    let proof = match handshake::proof(key, &hello, &challenge) {
        Ok(proof) => proof,
        Err(error) => return Ok(Err(error)),
    };
    stream.write_all(&proof).await?;
    match stream.read_u8().await? {
        0 => Ok(Ok(())),
        _ => Ok(Err(HandshakeError::BadProof)),
    }
}

/// Lets a peer prove the region's key. A stranger costs a bounded time and learns nothing.
pub async fn accept(mut stream: Stream, key: &RegionKey) -> Result<Stream, ConnectError> {
    let address = peer_name(&stream);
    let unreachable = |source| ConnectError::Unreachable { address: address.clone(), source };
    match timeout(PATIENCE, examine(&mut stream, key)).await {
        Err(_) => Err(unreachable(io::ErrorKind::TimedOut.into())),
        Ok(Err(source)) => Err(unreachable(source)),
        Ok(Ok(Err(source))) => Err(ConnectError::Refused { address, source }),
        Ok(Ok(Ok(()))) => Ok(stream),
    }
}

async fn examine(stream: &mut Stream, key: &RegionKey) -> io::Result<Result<(), HandshakeError>> {
    let mut hello = [0; HELLO_LEN];
    stream.read_exact(&mut hello).await?;
    let own = nonce();
    let challenge = match handshake::challenge(key, &hello, &own) {
        Ok(challenge) => challenge,
        Err(error) => {
            // A peer of another region still gets to know whom it reached, so that its error can say so.
            let mut answer = [0; CHALLENGE_LEN];
            answer[..HELLO_LEN].copy_from_slice(&handshake::hello(key, &own));
            stream.write_all(&answer).await?;
            return Ok(Err(error));
        }
    };
    stream.write_all(&challenge).await?;
    let mut proof = [0; SECRET_LEN];
    stream.read_exact(&mut proof).await?;
    let verdict = handshake::verify(key, &hello, &own, &proof);
    stream.write_all(&[u8::from(verdict.is_err())]).await?;
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    use super::super::Listener;

    async fn meet(client: RegionKey, server: RegionKey) -> (Result<(), String>, Result<(), String>) {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (told, mut tellings) = tokio::sync::mpsc::channel(2);
        // By the local socket, and by TCP when that was of no use.
        let serve = tokio::spawn(async move {
            loop {
                let met = accept(listener.accept().await.unwrap(), &server).await;
                told.send(met.map(drop).map_err(|e| format!("{e:?}"))).await.unwrap();
            }
        });
        let connected = connect(&address, &client).await.map(drop).map_err(|e| format!("{e:?}"));
        let served = tellings.recv().await.unwrap();
        serve.abort();
        (connected, served)
    }

    #[tokio::test]
    async fn a_stranger_and_another_region_are_turned_away_with_a_reason() {
        let key = |region, secret| RegionKey { region, secret: [secret; SECRET_LEN] };
        assert_eq!(meet(key(1, 1), key(1, 1)).await, (Ok(()), Ok(())));
        let (client, server) = meet(key(1, 2), key(1, 1)).await;
        assert!(client.unwrap_err().contains("BadProof"));
        assert!(server.is_err());
        let (client, server) = meet(key(2, 1), key(1, 1)).await;
        assert!(client.unwrap_err().contains("OtherRegion"));
        assert!(server.unwrap_err().contains("OtherRegion"));
    }

    #[tokio::test]
    async fn bytes_that_are_not_ours_are_turned_away() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(&[b'G'; HELLO_LEN]).await.unwrap();
        let stream = listener.accept().await.unwrap();
        let key = RegionKey { region: 1, secret: [0; SECRET_LEN] };
        let refused = accept(stream, &key).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Refused { source: HandshakeError::NotZorya, .. }));
    }
}
