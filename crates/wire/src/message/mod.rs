//! The storage protocol's messages. Drawn in `docs/formats/protocol.md`.
//!
//! Three families: [`log`] (the quorum log: appends, opening, gossip), [`pages`] (versioned reads) and [`node`] (what
//! a node is and which volumes it keeps). A request names its volume; a response comes back under the request's id.

pub mod log;
pub mod node;
pub mod pages;

use bytes::{Bytes, BytesMut};
use zorya_types::VolumeId;

use crate::codec::{Encoded, Malformed, Reader};
use crate::frame::{self, FrameHeader};

/// A request to a storage node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To a volume's log.
    Log(VolumeId, log::LogRequest),
    /// To a volume's pages.
    Pages(VolumeId, pages::PagesRequest),
    /// To the node.
    Node(node::NodeRequest),
}

/// A storage node's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// From a volume's log.
    Log(log::LogResponse),
    /// From a volume's pages.
    Pages(pages::PagesResponse),
    /// From the node.
    Node(node::NodeResponse),
}

const KIND_LOG: u16 = 1;
const KIND_PAGES: u16 = 2;
const KIND_NODE: u16 = 3;
const KIND_RESPONSE: u16 = 0x100;

/// A message ready to be sent: the frame's header and checked part in one buffer, then records.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Frame header and checked body.
    pub head: Bytes,
    /// Records, checked by themselves.
    pub records: Bytes,
}

fn outgoing(kind: u16, id: u64, checked: BytesMut, records: Bytes) -> Outgoing {
    let mut head = BytesMut::with_capacity(frame::HEADER_LEN + checked.len());
    head.extend_from_slice(&frame::header(kind, id, &checked, records.len()));
    head.extend_from_slice(&checked);
    Outgoing { head: head.freeze(), records }
}

impl Request {
    /// Encodes the request under an id.
    #[must_use]
    pub fn encode(&self, id: u64) -> Outgoing {
        let mut checked = BytesMut::with_capacity(96);
        match self {
            Request::Log(volume, request) => {
                volume.put(&mut checked);
                request.put(&mut checked);
                outgoing(KIND_LOG, id, checked, request.records())
            }
            Request::Pages(volume, request) => {
                volume.put(&mut checked);
                request.put(&mut checked);
                outgoing(KIND_PAGES, id, checked, Bytes::new())
            }
            Request::Node(request) => {
                request.put(&mut checked);
                outgoing(KIND_NODE, id, checked, Bytes::new())
            }
        }
    }

    /// The frame header and checked body of a request whose `records` bytes of records the caller sends behind it, so
    /// that several runs of records need not be joined first. The request's own records are left out.
    #[must_use]
    pub fn encode_head(&self, id: u64, records: usize) -> Bytes {
        let whole = self.encode(id);
        let checked = &whole.head[frame::HEADER_LEN..];
        let kind = match self {
            Request::Log(..) => KIND_LOG,
            Request::Pages(..) => KIND_PAGES,
            Request::Node(_) => KIND_NODE,
        };
        let mut head = BytesMut::with_capacity(whole.head.len());
        head.extend_from_slice(&frame::header(kind, id, checked, records));
        head.extend_from_slice(checked);
        head.freeze()
    }

    /// Decodes a checked frame.
    pub fn decode(header: &FrameHeader, body: Bytes) -> Result<Request, Malformed> {
        let records = body.slice(header.checked as usize..);
        let mut reader = Reader::new(body.slice(..header.checked as usize));
        let request = match header.kind {
            KIND_LOG => {
                let volume = VolumeId::get(&mut reader)?;
                Request::Log(volume, log::LogRequest::get(&mut reader)?.with_records(records))
            }
            KIND_PAGES => Request::Pages(VolumeId::get(&mut reader)?, pages::PagesRequest::get(&mut reader)?),
            KIND_NODE => Request::Node(node::NodeRequest::get(&mut reader)?),
            kind => return Err(Malformed::BadValue { field: "request kind", value: kind.into() }),
        };
        reader.finish()?;
        Ok(request)
    }
}

impl Response {
    /// Encodes the response to the request of that id.
    #[must_use]
    pub fn encode(&self, id: u64) -> Outgoing {
        let mut checked = BytesMut::with_capacity(96);
        match self {
            Response::Log(response) => {
                response.put(&mut checked);
                outgoing(KIND_RESPONSE | KIND_LOG, id, checked, response.records())
            }
            Response::Pages(response) => {
                response.put(&mut checked);
                outgoing(KIND_RESPONSE | KIND_PAGES, id, checked, Bytes::new())
            }
            Response::Node(response) => {
                response.put(&mut checked);
                outgoing(KIND_RESPONSE | KIND_NODE, id, checked, Bytes::new())
            }
        }
    }

    /// Decodes a checked frame.
    pub fn decode(header: &FrameHeader, body: Bytes) -> Result<Response, Malformed> {
        let records = body.slice(header.checked as usize..);
        let mut reader = Reader::new(body.slice(..header.checked as usize));
        let response = match header.kind & !KIND_RESPONSE {
            KIND_LOG if header.kind & KIND_RESPONSE != 0 => {
                Response::Log(log::LogResponse::get(&mut reader)?.with_records(records))
            }
            KIND_PAGES if header.kind & KIND_RESPONSE != 0 => {
                Response::Pages(pages::PagesResponse::get(&mut reader)?)
            }
            KIND_NODE if header.kind & KIND_RESPONSE != 0 => {
                Response::Node(node::NodeResponse::get(&mut reader)?)
            }
            _ => return Err(Malformed::BadValue { field: "response kind", value: header.kind.into() }),
        };
        reader.finish()?;
        Ok(response)
    }
}
