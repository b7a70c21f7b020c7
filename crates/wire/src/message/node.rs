//! Messages to a storage node as a whole.

use zorya_types::{Epoch, Incarnation, Lineage, LogId, Membership, NodeId, VolumeId};

use super::log::Reason;
use crate::{encoded_enum, encoded_struct};

encoded_struct! {
    /// Who are you?
    pub struct Identify {}
}

encoded_struct! {
    /// Keep a replica of this volume. Answered with [`Done`] also if it is already there with the same membership.
    pub struct CreateVolume {
        /// The volume.
        pub volume: VolumeId,
        /// Its log.
        pub log: LogId,
        /// Its history.
        pub lineage: Lineage,
        /// Its replicas; this node is one of them.
        pub membership: Membership,
    }
}

encoded_struct! {
    /// Forget this volume for good.
    pub struct DeleteVolume {
        /// The volume.
        pub volume: VolumeId,
    }
}

encoded_struct! {
    /// What is the state of everything here? Answered with JSON.
    pub struct Status {}
}

encoded_struct! {
    /// What do you know of this volume?
    pub struct DescribeVolume {
        /// The volume.
        pub volume: VolumeId,
    }
}

encoded_struct! {
    /// How much room is on your disk?
    pub struct MeasureDisk {}
}

encoded_enum! {
    /// A request to a node.
    pub enum NodeRequest {
        /// See [`Identify`].
        Identify(Identify) = 1,
        /// See [`CreateVolume`].
        CreateVolume(CreateVolume) = 2,
        /// See [`DeleteVolume`].
        DeleteVolume(DeleteVolume) = 3,
        /// See [`Status`].
        Status(Status) = 4,
        /// See [`DescribeVolume`].
        DescribeVolume(DescribeVolume) = 5,
        /// See [`MeasureDisk`].
        MeasureDisk(MeasureDisk) = 6,
    }
}

encoded_struct! {
    /// The node's identity.
    pub struct Identity {
        /// Its name.
        pub node: NodeId,
        /// The life of its disk.
        pub incarnation: Incarnation,
        /// Its zone.
        pub zone: String,
        /// The version of its binary.
        pub version: String,
    }
}

encoded_struct! {
    /// It is so.
    pub struct Done {}
}

encoded_struct! {
    /// The node's state as JSON (`docs/formats/protocol.md`).
    pub struct StatusJson {
        /// The JSON.
        pub json: String,
    }
}

encoded_struct! {
    /// What a node knows of a volume; hints, since only the segments' promises are the truth.
    pub struct VolumeDescription {
        /// Its log.
        pub log: LogId,
        /// Its history.
        pub lineage: Lineage,
        /// Its replicas.
        pub membership: Membership,
        /// The epoch that this replica promised.
        pub promised: Epoch,
    }
}

encoded_struct! {
    /// The file system that the node's directory is on.
    #[derive(Copy)]
    pub struct DiskSpace {
        /// Its size in bytes.
        pub total_bytes: u64,
        /// What the node may still use of it, in bytes.
        pub free_bytes: u64,
        /// Which file system it is, on that host; 0 if it does not say.
        pub file_system: u64,
    }
}

encoded_enum! {
    /// A node's answer.
    pub enum NodeResponse {
        /// See [`Identity`].
        Identity(Identity) = 1,
        /// See [`Done`].
        Done(Done) = 2,
        /// See [`StatusJson`].
        Status(StatusJson) = 3,
        /// It cannot be done.
        Refused(Reason) = 4,
        /// See [`VolumeDescription`].
        Volume(VolumeDescription) = 5,
        /// See [`DiskSpace`].
        Disk(DiskSpace) = 6,
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::codec::{Encoded, Reader};

    #[test]
    fn asking_for_room_has_these_bytes_in_version_1() {
        let mut out = BytesMut::new();
        NodeRequest::from(MeasureDisk {}).put(&mut out);
        assert_eq!(&out[..], [6]);
        let mut out = BytesMut::new();
        let space =
            NodeResponse::from(DiskSpace { total_bytes: 0x0102_0304, free_bytes: 0x0500, file_system: 9 });
        space.put(&mut out);
        assert_eq!(&out[..], [6, 4, 3, 2, 1, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(NodeResponse::get(&mut Reader::new(Bytes::from(out))), Ok(space));
    }
}
