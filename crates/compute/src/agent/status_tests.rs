use std::path::PathBuf;

use zorya_types::VolumeId;

use super::*;
use crate::layout::Layout;
use crate::region::{ComputeSpec, Desired, Engine, Phase};
use crate::volumes::{NodeReport, SegmentReport};

const VOLUME: VolumeId = VolumeId(9);

fn region(home: &Home) -> Region {
    let nodes = Layout::local(3, 2).resolve(home).unwrap();
    let profile = Profile::named("6/3az").unwrap();
    let mut region = Region::new(&profile, nodes, ComputeSpec::default());
    region.clusters.push(ClusterSpec {
        name: "main".to_owned(),
        engine: Engine::Postgres,
        volume: VOLUME,
        profile: profile.name.clone(),
        nodes: region.place(&profile).unwrap(),
        port: 5439,
        parameters: BTreeMap::new(),
        cache_bytes: 1,
        bin_dir: None,
        phase: Phase::Ready,
        desired: Desired::Running,
    });
    region
}

fn seen(region: &Region, answering: usize) -> Seen {
    let state = |answers: bool| NodeState {
        phase: if answers { NodePhase::Running } else { NodePhase::Stopped },
        pid: answers.then_some(10),
        reason: None,
        restarts: 0,
        report: answers.then(|| NodeReport {
            segments: vec![SegmentReport {
                volume: VOLUME,
                facts: Map::from_iter([("scl".to_owned(), Value::from(77))]),
            }],
        }),
    };
    let nodes =
        region.nodes.iter().enumerate().map(|(i, node)| (node.id.0.clone(), state(i < answering))).collect();
    let cluster = ClusterState {
        phase: ClusterPhase::Available,
        pid: Some(20),
        mount_pid: Some(21),
        reason: None,
        restarts: 0,
    };
    Seen { agent: Some(1), nodes, clusters: BTreeMap::from([("main".to_owned(), cluster)]) }
}

fn shown(answering: usize) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().to_owned()).unwrap();
    home.make().unwrap();
    fs::create_dir(home.cluster("main")).unwrap();
    fs::write(home.password("main"), "secret").unwrap();
    fs::write(
        home.mount_status("main"),
        r#"{"pid": 21, "fuse_connection": 5, "epoch": 3, "vdl": 88, "state": "serving"}"#,
    )
    .unwrap();
    let region = region(&home);
    serde_json::to_value(document(&home, &region, &seen(&region, answering))).unwrap()
}

#[test]
fn the_document_has_the_agreed_shape() {
    let document = shown(6);
    assert_eq!(document["agent"]["pid"], 1);
    assert_eq!(document["nodes"][0]["id"], "az1-a");
    assert_eq!(document["nodes"][0]["zone"], "az1");
    assert_eq!(document["nodes"][0]["pid"], 10);
    assert_eq!(document["nodes"][0]["state"], "running");
    let cluster = &document["clusters"][0];
    assert_eq!(cluster["id"], "main");
    assert_eq!(cluster["engine"], "postgres");
    assert_eq!(cluster["state"], "available");
    assert_eq!(cluster["endpoint"], "postgresql://postgres:secret@127.0.0.1:5439/postgres");
    assert_eq!(cluster["volume"]["epoch"], 3);
    assert_eq!(cluster["volume"]["vdl"], 88);
    assert_eq!(cluster["volume"]["state"], "available");
    assert_eq!(cluster["volume"]["segments"][5]["facts"]["scl"], 77);
    assert_eq!(cluster["instances"][0]["role"], "writer");
    assert_eq!(cluster["instances"][0]["pid"], 20);
    assert_eq!(cluster["instances"][0]["mount_pid"], 21);
    assert_eq!(document["warnings"], Value::Array(Vec::new()));
}

#[test]
fn a_lost_write_quorum_says_which_nodes_are_missing() {
    assert_eq!(shown(4)["clusters"][0]["volume"]["state"], "available");
    let document = shown(3);
    let volume = &document["clusters"][0]["volume"];
    assert_eq!(volume["state"], "blocked");
    let reason = volume["reason"].as_str().unwrap();
    for part in ["3 of 6", "4 are needed", "az2-b (stopped)", "az3-a (stopped)", "zorya node start"] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    assert!(document["warnings"][0].as_str().unwrap().contains("writes of cluster main wait"));
}

#[test]
fn a_region_that_is_down_shows_without_an_agent() {
    struct NoStorage;
    impl Volumes for NoStorage {
        fn create(
            &self,
            _: VolumeId,
            _: &Profile,
            _: &[crate::volumes::NodeAddress],
        ) -> Result<(), crate::volumes::VolumesError> {
            panic!("looking creates nothing")
        }
        fn delete(
            &self,
            _: VolumeId,
            _: &[crate::volumes::NodeAddress],
        ) -> Result<(), crate::volumes::VolumesError> {
            panic!("looking deletes nothing")
        }
        fn report(
            &self,
            _: &crate::volumes::NodeAddress,
            _: Duration,
        ) -> Result<NodeReport, crate::volumes::VolumesError> {
            panic!("no node runs")
        }
    }
    let home = Home::at(PathBuf::from("/no/such/home")).unwrap();
    let region = region(&home);
    let volumes: Arc<dyn Volumes> = Arc::new(NoStorage);
    let document = document(&home, &region, &look(&home, &region, &volumes));
    assert_eq!(document.agent.pid, None);
    assert!(document.nodes.iter().all(|node| node.state == NodePhase::Stopped));
    assert_eq!(document.clusters[0].state, ClusterPhase::Stopped);
    assert!(document.warnings.is_empty());
}
