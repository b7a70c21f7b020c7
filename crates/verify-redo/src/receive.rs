//! The log as the server writes it: the receiving side of PostgreSQL's physical replication protocol.
//!
//! A replication slot keeps the server from removing what was not received; what was is confirmed at once, so that
//! the server keeps little. Nothing is written to disk.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use zorya_redo::postgres::WalPosition;

const PROTOCOL_3: u32 = 196_608;
/// Received bytes after which they are confirmed.
const CONFIRM_EVERY: u64 = 4 << 20;

/// A connection that streams the log.
pub struct Receiver {
    socket: UnixStream,
    received: WalPosition,
    confirmed: WalPosition,
    body: Vec<u8>,
}

impl Receiver {
    /// Connects to a server's socket and has it stream the log from `start` on.
    pub fn start(socket: &Path, start: WalPosition) -> Result<Self> {
        let socket =
            UnixStream::connect(socket).with_context(|| format!("connecting to {}", socket.display()))?;
        let mut this = Self { socket, received: start, confirmed: start, body: Vec::new() };
        let mut startup = PROTOCOL_3.to_be_bytes().to_vec();
        startup.extend_from_slice(b"user\0postgres\0replication\0true\0application_name\0verify-redo\0\0");
        this.socket.write_all(&(startup.len() as u32 + 4).to_be_bytes())?;
        this.socket.write_all(&startup)?;
        this.until(b'Z')?;
        this.query("CREATE_REPLICATION_SLOT verify TEMPORARY PHYSICAL RESERVE_WAL")?;
        this.until(b'Z')?;
        this.query(&format!("START_REPLICATION SLOT verify PHYSICAL {start} TIMELINE 1"))?;
        this.until(b'W')?;
        Ok(this)
    }

    /// The next bytes of the log; `None` once the server has sent all and shut down.
    pub fn next(&mut self) -> Result<Option<&[u8]>> {
        loop {
            let kind = match self.message() {
                Ok(kind) => kind,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error).context("reading the stream"),
            };
            match (kind, self.body.first()) {
                (b'd', Some(b'w')) => {
                    ensure!(self.body.len() >= 25, "a short message");
                    let start = WalPosition(u64::from_be_bytes(self.body[1..9].try_into()?));
                    ensure!(start == self.received, "the stream jumps from {} to {start}", self.received);
                    self.received = start.after(self.body.len() - 25);
                    if self.received.0 - self.confirmed.0 >= CONFIRM_EVERY {
                        self.confirm()?;
                    }
                    return Ok(Some(&self.body[25..]));
                }
                (b'd', Some(b'k')) if self.body.last() == Some(&1) => self.confirm()?,
                (b'c' | b'C', _) => return Ok(None),
                (b'E', _) => bail!("the server ended the stream: {}", message_text(&self.body)),
                _ => {}
            }
        }
    }

    /// Tells the server that all received bytes are safe. A server that is gone no longer cares.
    fn confirm(&mut self) -> io::Result<()> {
        self.confirmed = self.received;
        let mut message = vec![b'd', 0, 0, 0, 38, b'r'];
        for _ in 0..3 {
            message.extend_from_slice(&self.received.0.to_be_bytes());
        }
        message.extend_from_slice(&[0; 9]);
        match self.socket.write_all(&message) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    fn query(&mut self, sql: &str) -> io::Result<()> {
        self.socket.write_all(b"Q")?;
        self.socket.write_all(&(sql.len() as u32 + 5).to_be_bytes())?;
        self.socket.write_all(sql.as_bytes())?;
        self.socket.write_all(&[0])
    }

    fn message(&mut self) -> io::Result<u8> {
        let mut head = [0; 5];
        self.socket.read_exact(&mut head)?;
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        self.body.resize(len.saturating_sub(4) as usize, 0);
        self.socket.read_exact(&mut self.body)?;
        Ok(head[0])
    }

    fn until(&mut self, wanted: u8) -> Result<()> {
        loop {
            match self.message().context("reading from the server")? {
                kind if kind == wanted => return Ok(()),
                b'E' => bail!("the server refuses: {}", message_text(&self.body)),
                _ => {}
            }
        }
    }
}

/// The text in an error message of the server.
fn message_text(body: &[u8]) -> String {
    let fields = body.split(|&byte| byte == 0);
    let text = fields.filter_map(|field| field.split_first()).find(|(kind, _)| **kind == b'M');
    text.map_or_else(String::new, |(_, text)| String::from_utf8_lossy(text).into_owned())
}
