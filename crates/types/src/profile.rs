//! Protection profiles and memberships: the quorum arithmetic as data.

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, NodeId, Slot};

/// How many copies a volume keeps and how many of them a write and a read need.
///
/// `write + read > replicas` and `2 * write > replicas` hold for every profile (Gifford 1979; Verbitski et al.,
/// SIGMOD 2017, section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// `6/3az`, `3/3az` or `1`.
    pub name: String,
    /// V: how many replicas.
    pub replicas: u8,
    /// W: how many acknowledge a write.
    pub write_quorum: u8,
    /// R: how many a reader must hear to have seen every write.
    pub read_quorum: u8,
    /// Over how many zones the replicas are spread evenly.
    pub zones: u8,
}

/// A profile name that is not known.
#[derive(Debug, thiserror::Error)]
#[error("unknown protection profile {0:?}: use 6/3az, 3/3az or 1")]
pub struct UnknownProfile(String);

impl Profile {
    /// The profile of that name.
    pub fn named(name: &str) -> Result<Profile, UnknownProfile> {
        let (replicas, write_quorum, read_quorum, zones) = match name {
            "6/3az" => (6, 4, 3, 3),
            "3/3az" => (3, 2, 2, 3),
            "1" => (1, 1, 1, 1),
            other => return Err(UnknownProfile(other.to_owned())),
        };
        Ok(Profile { name: name.to_owned(), replicas, write_quorum, read_quorum, zones })
    }

    /// Whether the arithmetic is sound: any read meets any write, and any two writes meet. Asked of whatever a peer or a
    /// disk says.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let [replicas, write, read] = [self.replicas, self.write_quorum, self.read_quorum].map(u16::from);
        write <= replicas
            && read <= replicas
            && write + read > replicas
            && 2 * write > replicas
            && self.zones >= 1
    }
}

/// One replica's node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node's name.
    pub node: NodeId,
    /// The life of its disk that was admitted.
    pub incarnation: Incarnation,
    /// The availability zone.
    pub zone: String,
    /// Where it listens, `host:port`.
    pub address: String,
}

/// The replicas of a volume. Changed only by a numbered successor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Rises by one with every change.
    pub generation: u64,
    /// The quorums.
    pub profile: Profile,
    /// By slot.
    pub members: Vec<Member>,
}

impl Membership {
    /// The slots, in order.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.members.len()).map(|slot| Slot(slot as u8))
    }

    /// The member in a slot.
    #[must_use]
    pub fn member(&self, slot: Slot) -> Option<&Member> {
        self.members.get(usize::from(slot.0))
    }

    /// The slot of a node, if it is a member.
    #[must_use]
    pub fn slot_of(&self, node: &NodeId) -> Option<Slot> {
        self.members.iter().position(|member| &member.node == node).map(|slot| Slot(slot as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_profile_is_sound() {
        for name in ["6/3az", "3/3az", "1"] {
            assert!(Profile::named(name).unwrap().is_sound(), "{name}");
        }
        assert!(Profile::named("5/2az").is_err());
    }

    #[test]
    fn quorums_that_no_replicas_could_form_are_unsound() {
        let six = Profile::named("6/3az").unwrap();
        for (write_quorum, read_quorum) in [(3, 4), (4, 2), (7, 3), (4, 7), (4, 255), (255, 255), (131, 3)] {
            let other = Profile { write_quorum, read_quorum, ..six.clone() };
            assert!(!other.is_sound(), "{write_quorum} and {read_quorum} of 6");
        }
    }

    #[test]
    fn six_in_three_zones_survives_a_zone_for_writes_and_a_zone_and_one_for_reads() {
        let six = Profile::named("6/3az").unwrap();
        let per_zone = six.replicas / six.zones;
        let left = six.replicas - per_zone;
        assert!(left >= six.write_quorum);
        assert!(left > six.read_quorum, "one more may go");
    }
}
