//! A Unix stream that is told of bytes to read, and of room to write only while it waits for that.
//!
//! The kernel reports room on a Unix socket at each read of the other end (`unix_write_space` in `net/unix/af_unix.c`),
//! on a TCP socket only after a write that found none. `tokio::net::UnixStream` listens for both, so each message would
//! wake its sender once more when it is read.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// At most so many bytes are read at a time: as many are set to zero before.
const CHUNK: usize = 16 << 10;

/// A connected Unix stream, or a half of one.
#[derive(Debug)]
pub struct LocalStream {
    stream: Arc<AsyncFd<UnixStream>>,
    /// There while a write waits for room.
    full: Option<AsyncFd<OwnedFd>>,
}

impl LocalStream {
    /// Takes over a stream of this runtime.
    ///
    /// # Errors
    /// The poll's: too many files.
    pub fn new(stream: tokio::net::UnixStream) -> io::Result<LocalStream> {
        let stream = listen(stream.into_std()?, Interest::READABLE)?;
        Ok(LocalStream { stream: Arc::new(stream), full: None })
    }

    /// Two halves: one is to be read, the other written.
    #[must_use]
    pub fn into_split(self) -> (LocalStream, LocalStream) {
        (LocalStream { stream: self.stream.clone(), full: None }, self)
    }

    /// Writes as soon as there is room.
    fn poll_to_write(
        &mut self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&mut &UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(full) = &self.full {
                ready!(full.poll_write_ready(context))?.clear_ready();
            }
            match write(&mut self.stream.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => {
                    self.full = None;
                    return Poll::Ready(outcome);
                }
            }
            if self.full.is_none() {
                let again = self.stream.get_ref().as_fd().try_clone_to_owned()?;
                self.full = Some(listen(again, Interest::WRITABLE)?);
            }
        }
    }
}

/// Has the runtime watch a file that the result owns.
#[expect(deprecated, reason = "its successor is unsafe for types that do not own their file; these do")]
fn listen<T: Into<OwnedFd> + AsRawFd>(file: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(file, interest)
}

impl AsyncRead for LocalStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wanted = buffer.remaining().min(CHUNK);
        loop {
            let mut readable = ready!(self.stream.poll_read_ready(context))?;
            let place = buffer.initialize_unfilled_to(wanted);
            match self.stream.get_ref().read(place) {
                Ok(len) => {
                    if 0 < len && len < wanted {
                        // That was all: what comes later is reported again.
                        readable.clear_ready();
                    }
                    buffer.advance(len);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_to_write(context, |stream| stream.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_to_write(context, |stream| stream.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (LocalStream, LocalStream) {
        let (one, other) = tokio::net::UnixStream::pair().unwrap();
        (LocalStream::new(one).unwrap(), LocalStream::new(other).unwrap())
    }

    #[tokio::test]
    async fn more_than_fits_into_the_socket_arrives_whole_and_in_order() {
        let (one, other) = pair();
        let (_unread, mut write) = one.into_split();
        let (mut read, _unwritten) = other.into_split();
        let sent: Vec<u8> = (0..8_u32 << 20).map(|index| (index % 251) as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            assert!(write.full.is_none(), "nothing waits for room any more");
            write.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        read.read_to_end(&mut received).await.unwrap();
        writer.await.unwrap();
        assert!(received == expected, "{} bytes", received.len());
    }

    #[tokio::test]
    async fn a_write_waits_while_there_is_no_room_and_goes_on_with_the_first_read() {
        let (mut one, mut other) = pair();
        let block = vec![7; 1 << 20];
        let writing = tokio::time::timeout(Duration::from_millis(50), one.write_all(&block)).await;
        assert!(writing.is_err(), "a megabyte fits into no socket");
        assert!(one.full.is_some());
        let mut some = vec![0; 512 << 10];
        let (written, read) = tokio::join!(one.write(&[8]), other.read_exact(&mut some[..200 << 10]));
        assert_eq!((written.unwrap(), read.unwrap()), (1, 200 << 10));
        assert!(one.full.is_none());
    }

    #[tokio::test]
    async fn a_reader_sees_the_end_and_a_writer_that_nobody_is_there() {
        let (mut one, other) = pair();
        drop(other);
        assert_eq!(one.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(one.write(&[1]).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    /// What the process's polls listen for on a file, by what the kernel says of them (proc(5), `fdinfo`): `EPOLL` bits.
    fn listens_for(file: &impl AsRawFd) -> u32 {
        let name = file.as_raw_fd().to_string();
        let mut masks = 0;
        for poll in std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
            // A file of another test may be gone by now.
            let text = std::fs::read_to_string(poll.path()).unwrap_or_default();
            for line in text.lines().filter_map(|line| line.strip_prefix("tfd:")) {
                let words: Vec<&str> = line.split_whitespace().collect();
                if words[0] == name {
                    masks |= u32::from_str_radix(words[2], 16).unwrap();
                }
            }
        }
        masks
    }

    #[tokio::test]
    async fn only_a_writer_that_waits_listens_for_room() {
        const POLLIN: u32 = 1;
        const POLLOUT: u32 = 4;
        let (mut one, other) = pair();
        let unwritten = one.stream.clone();
        assert_eq!(listens_for(unwritten.get_ref()) & (POLLIN | POLLOUT), POLLIN);
        assert_eq!(one.write(&[1]).await.unwrap(), 1);
        assert_eq!(listens_for(unwritten.get_ref()) & (POLLIN | POLLOUT), POLLIN);
        let block = vec![7; 1 << 20];
        let writing = tokio::time::timeout(Duration::from_millis(20), one.write_all(&block)).await;
        assert!(writing.is_err());
        assert_eq!(listens_for(unwritten.get_ref()) & POLLOUT, 0);
        assert_eq!(listens_for(one.full.as_ref().unwrap().get_ref()) & (POLLIN | POLLOUT), POLLOUT);
        drop(other);
    }
}
