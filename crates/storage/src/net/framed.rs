//! Frames over a stream: reading without copying, writing without joining.

use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zorya_wire::frame::{FrameHeader, HEADER_LEN};
use zorya_wire::message::Outgoing;

/// How much is read from the stream at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// Reads frames off a stream. Bodies share the receive buffer.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `stream`.
    pub fn new(stream: R) -> FrameReader<R> {
        FrameReader { stream, buffer: BytesMut::new() }
    }

    /// The next frame with its checksum verified; `None` when the peer closed between frames.
    ///
    /// # Errors
    /// The stream's, or `InvalidData` around a `zorya_wire::FrameError`. Cancelling loses nothing.
    pub async fn next(&mut self) -> io::Result<Option<(FrameHeader, Bytes)>> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            if self.buffer.capacity() - self.buffer.len() < CHUNK / 4 {
                self.buffer.reserve(CHUNK);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    fn take(&mut self) -> io::Result<Option<(FrameHeader, Bytes)>> {
        let Some(head) = self.buffer.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let header = FrameHeader::decode(head).map_err(invalid)?;
        let whole = HEADER_LEN + header.body as usize;
        if self.buffer.len() < whole {
            self.buffer.reserve(whole - self.buffer.len());
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(whole).freeze();
        frame.advance(HEADER_LEN);
        header.check(&frame).map_err(invalid)?;
        Ok(Some((header, frame)))
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Writes messages, gathering their parts so that small ones share a system call.
pub async fn write_outgoing<W: AsyncWrite + Unpin>(stream: &mut W, messages: &[Outgoing]) -> io::Result<()> {
    let parts = messages.iter().flat_map(|message| [&message.head, &message.records]);
    let mut parts: Vec<Bytes> = parts.filter(|part| !part.is_empty()).cloned().collect();
    let mut first = 0;
    while first < parts.len() {
        let slices: Vec<IoSlice<'_>> =
            parts[first..].iter().take(64).map(|part| IoSlice::new(part)).collect();
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while first < parts.len() && written >= parts[first].len() {
            written -= parts[first].len();
            first += 1;
        }
        if written > 0 {
            parts[first].advance(written);
        }
    }
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use zorya_types::VolumeId;
    use zorya_wire::message::Request;
    use zorya_wire::message::node::{Identify, NodeRequest, Status};

    #[tokio::test]
    async fn frames_arrive_whole_however_the_stream_cuts_them() {
        let requests = [Request::Node(Identify {}.into()), Request::Node(Status {}.into())];
        let mut sent = Vec::new();
        let messages: Vec<Outgoing> = (0..40).map(|id| requests[id % 2].encode(id as u64)).collect();
        write_outgoing(&mut sent, &messages).await.unwrap();
        for cut in [1, 3, 24, 25, 1000] {
            let pieces: Vec<io::Result<Bytes>> =
                sent.chunks(cut).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
            let mut builder = tokio_test_stream(pieces);
            for id in 0..40u64 {
                let (header, body) = builder.next().await.unwrap().unwrap();
                assert_eq!(header.id, id);
                let request = Request::decode(&header, body).unwrap();
                assert!(matches!(request, Request::Node(NodeRequest::Identify(_) | NodeRequest::Status(_))));
            }
            assert!(builder.next().await.unwrap().is_none());
        }
        let _ = VolumeId(0);
    }

    fn tokio_test_stream(pieces: Vec<io::Result<Bytes>>) -> FrameReader<Pieces> {
        FrameReader::new(Pieces { pieces: pieces.into_iter().collect() })
    }

    struct Pieces {
        pieces: std::collections::VecDeque<io::Result<Bytes>>,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            if let Some(piece) = self.pieces.pop_front() {
                buf.put_slice(&piece?);
            }
            std::task::Poll::Ready(Ok(()))
        }
    }
}
