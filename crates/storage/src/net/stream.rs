//! The streams below a connection: TCP, and a Unix socket between processes of one host.
//!
//! A node that listens on a loopback address also listens on a socket in the abstract namespace with that address in
//! its name (unix(7)), and who connects to a loopback address tries that first: both namespaces are those of the
//! network namespace, so it is the same node. A message costs about half of what it costs over loopback TCP, and the
//! handshake is the same.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, tcp};
use tokio_util::either::Either;

use super::local::LocalStream;

/// How long sent bytes may stay unacknowledged before the connection counts as broken (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(4);

/// A connected stream.
pub type Stream = Either<TcpStream, LocalStream>;
/// The reading half of a stream.
pub type ReadHalf = Either<tcp::OwnedReadHalf, LocalStream>;
/// The writing half of a stream.
pub type WriteHalf = Either<tcp::OwnedWriteHalf, LocalStream>;

/// Takes a stream apart, so that two tasks can use it.
pub fn split(stream: Stream) -> (ReadHalf, WriteHalf) {
    match stream {
        Either::Left(tcp) => {
            let (read, write) = tcp.into_split();
            (Either::Left(read), Either::Left(write))
        }
        Either::Right(local) => {
            let (read, write) = local.into_split();
            (Either::Right(read), Either::Right(write))
        }
    }
}

/// Connects to `address` (`host:port`) by TCP.
pub(super) async fn connect_tcp(address: &str) -> io::Result<Stream> {
    Ok(Either::Left(tuned(TcpStream::connect(address).await?)?))
}

/// Connects to the node that listens on a loopback `address`, if there is one with a local socket. Never waits: a node that
/// takes no connections has its queue of them full, which is a failure as well.
pub(super) async fn connect_local(address: &str) -> Option<Stream> {
    let name = local_name(address.parse().ok()?)?;
    Some(Either::Right(LocalStream::new(UnixStream::connect(name).await.ok()?).ok()?))
}

fn tuned(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(stream)
}

/// A name in the abstract namespace begins with a zero byte.
fn local_name(address: SocketAddr) -> Option<String> {
    address.ip().is_loopback().then(|| format!("\0zorya/{address}"))
}

/// Where a storage node listens.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    local: Option<UnixListener>,
}

impl Listener {
    /// Listens on `address` (`host:port`), and on the local socket that belongs to it if it is a loopback address.
    ///
    /// # Errors
    /// Those of the address. Without a local socket there is a warning: TCP serves everybody.
    pub async fn bind(address: &str) -> io::Result<Listener> {
        let tcp = TcpListener::bind(address).await?;
        let local = local_name(tcp.local_addr()?).and_then(|name| {
            let listening = UnixListener::bind(name);
            listening
                .map_err(|error| tracing::warn!(%error, "no local socket: peers on this host use TCP"))
                .ok()
        });
        Ok(Listener { tcp, local })
    }

    /// The address, with the port that the system chose if it was 0.
    ///
    /// # Errors
    /// The socket's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The next connection.
    ///
    /// # Errors
    /// The sockets': the connection failed, or too many files are open.
    pub async fn accept(&self) -> io::Result<Stream> {
        let local = async {
            match &self.local {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.tcp.accept() => Ok(Either::Left(tuned(accepted?.0)?)),
            accepted = local => Ok(Either::Right(LocalStream::new(accepted?.0)?)),
        }
    }
}

/// Who is at the other end, for a message.
pub(super) fn peer_name(stream: &Stream) -> String {
    match stream {
        Either::Left(tcp) => {
            tcp.peer_addr().map_or_else(|_| "a peer".to_owned(), |address| address.to_string())
        }
        Either::Right(_) => "a process on this host".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use zorya_wire::handshake::{RegionKey, SECRET_LEN};

    use super::super::{accept, connect};
    use super::*;

    fn key() -> RegionKey {
        RegionKey { region: 1, secret: [7; SECRET_LEN] }
    }

    /// Lets in whoever comes to a listener.
    fn serve(listener: Listener) -> SocketAddr {
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok(stream) = listener.accept().await {
                tokio::spawn(async move { accept(stream, &key()).await });
            }
        });
        address
    }

    #[tokio::test]
    async fn on_one_host_there_is_no_tcp_between_processes() {
        let address = serve(Listener::bind("127.0.0.1:0").await.unwrap());
        let stream = connect(&address.to_string(), &key()).await.unwrap();
        assert!(matches!(stream, Either::Right(_)), "{stream:?}");
        let by_name = connect(&format!("localhost:{}", address.port()), &key()).await.unwrap();
        assert!(matches!(by_name, Either::Left(_)), "a name may be another host's: {by_name:?}");
    }

    #[tokio::test]
    async fn a_stranger_with_the_name_of_the_local_socket_does_not_hide_the_node() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stranger = UnixListener::bind(local_name(tcp.local_addr().unwrap()).unwrap()).unwrap();
        tokio::spawn(async move { while stranger.accept().await.is_ok() {} });
        let address = serve(Listener { tcp, local: None });
        let stream = connect(&address.to_string(), &key()).await.unwrap();
        assert!(matches!(stream, Either::Left(_)), "{stream:?}");
    }

    #[tokio::test]
    async fn a_local_socket_that_takes_no_connections_holds_nobody_up() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = local_name(tcp.local_addr().unwrap()).unwrap();
        let stopped = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        stopped.bind(&socket2::SockAddr::unix(&name).unwrap()).unwrap();
        stopped.listen(0).unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = UnixStream::connect(&name).await {
            queued.push(stream);
        }
        let address = serve(Listener { tcp, local: None });
        let stream = connect(&address.to_string(), &key()).await.unwrap();
        assert!(matches!(stream, Either::Left(_)), "{stream:?}");
    }

    #[tokio::test]
    async fn a_node_whose_local_name_is_taken_serves_by_tcp() {
        let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let _stranger = UnixListener::bind(local_name(reserved).unwrap()).unwrap();
        let listener = Listener::bind(&reserved.to_string()).await.unwrap();
        assert!(listener.local.is_none());
        assert!(local_name("192.0.2.1:80".parse().unwrap()).is_none());
    }
}
