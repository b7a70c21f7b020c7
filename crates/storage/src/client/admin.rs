//! What an operator's tools do to volumes and nodes, one request at a time.

use std::time::Duration;

use zorya_types::{Lineage, LogId, Member, Membership, NodeId, Profile, VolumeId};
use zorya_wire::handshake::RegionKey;
use zorya_wire::message::node::{
    CreateVolume, DeleteVolume, DescribeVolume, Identify, NodeRequest, NodeResponse, Status,
    VolumeDescription,
};
use zorya_wire::message::{Request, Response};

use crate::net::{ConnectError, FrameReader, connect, split, write_outgoing};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a node or a volume could not be administered.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke, or the answer did not come in time.
    #[error("storage node at {address} did not answer")]
    NoAnswer {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The node says no.
    #[error("storage node at {address} refused: {reason}")]
    Refused {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// The node at an address is not the one that was expected.
    #[error("at {address} there is storage node {found}, not {wanted}")]
    OtherNode {
        /// Where.
        address: String,
        /// Which node it is.
        found: NodeId,
        /// Which node it should be.
        wanted: NodeId,
    },
    /// The profile needs other nodes than there are.
    #[error(
        "profile {profile} needs {replicas} storage nodes, spread evenly over {zones} zones; given: {given}"
    )]
    WrongNodes {
        /// The profile.
        profile: String,
        /// How many it needs.
        replicas: u8,
        /// Over how many zones.
        zones: u8,
        /// What was given.
        given: String,
    },
}

/// Where a replica is to be.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The storage node.
    pub node: NodeId,
    /// Its zone.
    pub zone: String,
    /// Its address, `host:port`.
    pub address: String,
}

/// How to create a volume.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Its id, drawn at random by the caller.
    pub volume: VolumeId,
    /// The protection profile.
    pub profile: Profile,
    /// Exactly as many nodes as the profile has replicas.
    pub nodes: Vec<Placement>,
    /// The region's key.
    pub key: RegionKey,
}

async fn ask(address: &str, key: &RegionKey, request: NodeRequest) -> Result<NodeResponse, AdminError> {
    let stream = connect(address, key).await?;
    let (read, mut write) = split(stream);
    let exchange = async {
        write_outgoing(&mut write, &[Request::Node(request).encode(1)]).await?;
        let (header, body) = FrameReader::new(read).next().await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Response::decode(&header, body).map_err(std::io::Error::other)
    };
    let no_answer = |source| AdminError::NoAnswer { address: address.to_owned(), source };
    let late = |_| no_answer(std::io::ErrorKind::TimedOut.into());
    match tokio::time::timeout(PATIENCE, exchange).await.map_err(late)?.map_err(no_answer)? {
        Response::Node(NodeResponse::Refused(reason)) => {
            Err(AdminError::Refused { address: address.to_owned(), reason: reason.text })
        }
        Response::Node(response) => Ok(response),
        _ => Err(no_answer(std::io::ErrorKind::InvalidData.into())),
    }
}

fn unexpected(address: &str) -> AdminError {
    AdminError::NoAnswer { address: address.to_owned(), source: std::io::ErrorKind::InvalidData.into() }
}

/// Creates a volume on every one of its nodes. Doing it again with the same nodes changes nothing, so an attempt that
/// broke off can be repeated.
pub async fn create_volume(options: &CreateOptions) -> Result<Membership, AdminError> {
    check_spread(options)?;
    let mut members = Vec::with_capacity(options.nodes.len());
    for node in &options.nodes {
        members.push(admit(node, &options.key).await?);
    }
    let membership = Membership { generation: 1, profile: options.profile.clone(), members };
    let log = LogId(1);
    for node in &options.nodes {
        let request = CreateVolume {
            volume: options.volume,
            log,
            lineage: Lineage::root(log),
            membership: membership.clone(),
        };
        ask(&node.address, &options.key, request.into()).await?;
    }
    Ok(membership)
}

fn check_spread(options: &CreateOptions) -> Result<(), AdminError> {
    let profile = &options.profile;
    let mut zones: Vec<&str> = options.nodes.iter().map(|node| node.zone.as_str()).collect();
    zones.sort_unstable();
    let per_zone: Vec<usize> = zones.chunk_by(|a, b| a == b).map(<[&str]>::len).collect();
    let even = per_zone.iter().all(|count| *count == usize::from(profile.replicas / profile.zones));
    if options.nodes.len() == usize::from(profile.replicas)
        && per_zone.len() == usize::from(profile.zones)
        && even
    {
        return Ok(());
    }
    Err(AdminError::WrongNodes {
        profile: profile.name.clone(),
        replicas: profile.replicas,
        zones: profile.zones,
        given: options
            .nodes
            .iter()
            .map(|n| format!("{} in {}", n.node, n.zone))
            .collect::<Vec<_>>()
            .join(", "),
    })
}

async fn admit(node: &Placement, key: &RegionKey) -> Result<Member, AdminError> {
    let NodeResponse::Identity(identity) = ask(&node.address, key, Identify {}.into()).await? else {
        return Err(unexpected(&node.address));
    };
    if identity.node != node.node {
        return Err(AdminError::OtherNode {
            address: node.address.clone(),
            found: identity.node,
            wanted: node.node.clone(),
        });
    }
    Ok(Member {
        node: identity.node,
        incarnation: identity.incarnation,
        zone: identity.zone,
        address: node.address.clone(),
    })
}

/// Deletes a volume on one node; a node that does not keep it says yes as well.
pub async fn delete_volume(address: &str, key: &RegionKey, volume: VolumeId) -> Result<(), AdminError> {
    ask(address, key, DeleteVolume { volume }.into()).await.map(drop)
}

/// What a node knows of a volume.
pub async fn describe_volume(
    address: &str,
    key: &RegionKey,
    volume: VolumeId,
) -> Result<VolumeDescription, AdminError> {
    match ask(address, key, DescribeVolume { volume }.into()).await? {
        NodeResponse::Volume(description) => Ok(description),
        _ => Err(unexpected(address)),
    }
}

/// A node's state as JSON.
pub async fn node_status(address: &str, key: &RegionKey) -> Result<String, AdminError> {
    match ask(address, key, Status {}.into()).await? {
        NodeResponse::Status(status) => Ok(status.json),
        _ => Err(unexpected(address)),
    }
}
