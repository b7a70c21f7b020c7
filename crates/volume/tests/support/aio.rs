//! Linux asynchronous I/O (io_submit(2)), as InnoDB uses it, without a library.
#![allow(unsafe_code, reason = "io_submit has no safe wrapper here")]

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

const READ: u16 = 0;
const WRITE: u16 = 1;

/// `struct iocb` of linux/aio_abi.h, little-endian.
#[repr(C)]
#[derive(Default)]
struct Block {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    descriptor: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_descriptor: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    block: u64,
    result: i64,
    result2: i64,
}

/// A request that has ended: its number, what the kernel returned, and its buffer.
pub struct Ended {
    pub number: u64,
    pub result: i64,
    pub buffer: AlignedBuffer,
}

/// A buffer on a memory page boundary, for O_DIRECT.
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    pub fn new(len: usize) -> AlignedBuffer {
        let bytes = vec![0; len + 4096];
        let start = bytes.as_ptr().align_offset(4096);
        AlignedBuffer { bytes, start, len }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// A context with requests in flight.
pub struct Aio {
    context: u64,
    next: u64,
    in_flight: HashMap<u64, (Box<Block>, AlignedBuffer)>,
}

fn checked(result: libc::c_long) -> io::Result<usize> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}

impl Aio {
    pub fn new(depth: u32) -> io::Result<Aio> {
        let mut context = 0u64;
        // SAFETY: the kernel writes the context's number to a local variable.
        checked(unsafe { libc::syscall(libc::SYS_io_setup, depth, &mut context) })?;
        Ok(Aio { context, next: 0, in_flight: HashMap::new() })
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Submits a read into, or a write from, a buffer; returns the request's number.
    pub fn submit(
        &mut self,
        file: &File,
        write: bool,
        mut buffer: AlignedBuffer,
        offset: u64,
    ) -> io::Result<u64> {
        let number = self.next;
        self.next += 1;
        let block = Box::new(Block {
            data: number,
            opcode: if write { WRITE } else { READ },
            descriptor: file.as_raw_fd() as u32,
            buffer: buffer.bytes().as_mut_ptr() as u64,
            bytes: buffer.bytes().len() as u64,
            offset: offset as i64,
            ..Block::default()
        });
        let list = [&*block as *const Block];
        // SAFETY: the block and the buffer live in `in_flight` until the request has ended.
        checked(unsafe {
            libc::syscall(libc::SYS_io_submit, self.context, 1 as libc::c_long, list.as_ptr())
        })?;
        self.in_flight.insert(number, (block, buffer));
        Ok(number)
    }

    /// Waits for a request to end.
    pub fn wait(&mut self) -> io::Result<Ended> {
        let mut event = Event::default();
        let none = std::ptr::null::<libc::timespec>();
        let one = 1 as libc::c_long;
        // SAFETY: the kernel writes one event to a local variable.
        checked(unsafe { libc::syscall(libc::SYS_io_getevents, self.context, one, one, &mut event, none) })?;
        let ended = self.in_flight.remove(&event.data);
        let (_, buffer) = ended.ok_or_else(|| io::Error::other("an event of no request"))?;
        Ok(Ended { number: event.data, result: event.result, buffer })
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: waits for every request; their buffers are dropped after it.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}
