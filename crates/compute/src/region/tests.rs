use super::*;

fn region(zones: &[(&str, usize)]) -> Region {
    let node = |zone: &str, place: usize| NodeSpec {
        id: NodeId(format!("{zone}-{place}")),
        zone: zone.to_owned(),
        data: PathBuf::from("/d"),
        listen: "127.0.0.1:1".to_owned(),
        netns: None,
        desired: Desired::Running,
    };
    let nodes =
        zones.iter().flat_map(|(zone, count)| (0..*count).map(move |place| node(zone, place))).collect();
    Region::new(&Profile::named("6/3az").unwrap(), nodes, ComputeSpec::default())
}

fn cluster(name: &str, nodes: Vec<NodeId>) -> ClusterSpec {
    ClusterSpec {
        name: name.to_owned(),
        engine: Engine::Postgres,
        volume: VolumeId(5),
        profile: "6/3az".to_owned(),
        nodes,
        port: 5432,
        parameters: BTreeMap::from([("work_mem".to_owned(), "8MB".to_owned())]),
        cache_bytes: 256 << 20,
        bin_dir: None,
        phase: Phase::Ready,
        desired: Desired::Running,
    }
}

fn placed(region: &Region, profile: &str) -> Vec<String> {
    region.place(&Profile::named(profile).unwrap()).unwrap().into_iter().map(|id| id.0).collect()
}

#[test]
fn a_volume_is_placed_two_in_each_zone() {
    let region = region(&[("az1", 2), ("az2", 2), ("az3", 2)]);
    assert_eq!(placed(&region, "6/3az"), ["az1-0", "az1-1", "az2-0", "az2-1", "az3-0", "az3-1"]);
    assert_eq!(placed(&region, "3/3az"), ["az1-0", "az2-0", "az3-0"]);
    assert_eq!(placed(&region, "1"), ["az1-0"]);
}

#[test]
fn the_next_volume_goes_where_fewer_are() {
    let mut region = region(&[("az1", 2), ("az2", 2), ("az3", 2)]);
    let nodes = region.place(&Profile::named("3/3az").unwrap()).unwrap();
    region.clusters.push(cluster("one", nodes));
    assert_eq!(placed(&region, "3/3az"), ["az1-1", "az2-1", "az3-1"]);
}

#[test]
fn too_few_nodes_say_how_many_there_are() {
    let region = region(&[("az1", 2), ("az2", 1)]);
    let message = region.place(&Profile::named("6/3az").unwrap()).unwrap_err().to_string();
    assert!(message.contains("2 in az1, 1 in az2"), "{message}");
}

#[test]
fn names_fit_paths_and_urls() {
    for good in ["main", "a", "my-db-2", "0x"] {
        assert!(check_name(good).is_ok(), "{good}");
    }
    for bad in ["", "-a", "A", "a/b", "..", "a b", "ä", &"x".repeat(41)] {
        assert!(check_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_region_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region.json");
    let mut region = region(&[("az1", 1)]);
    region.clusters.push(cluster("main", vec![NodeId("az1-0".to_owned())]));
    RegionStore::create(path.clone(), region.clone()).unwrap();
    let store = RegionStore::open(path.clone()).unwrap();
    assert_eq!(store.get(), region);
    store.update(|region| region.clusters[0].desired = Desired::Stopped).unwrap();
    assert_eq!(RegionStore::open(path).unwrap().get().clusters[0].desired, Desired::Stopped);
}

#[test]
fn a_newer_format_is_refused_even_if_it_looks_different() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region.json");
    std::fs::write(&path, r#"{"version": 2, "shape": "unknown"}"#).unwrap();
    let message = RegionStore::open(path).unwrap_err().to_string();
    assert!(message.contains("format 2") && message.contains("newer zorya"), "{message}");
}

#[test]
fn a_damaged_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region.json");
    for text in ["", "{", r#"{"version": 1}"#, "[]"] {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(RegionStore::open(path.clone()), Err(RegionError::Malformed { .. })), "{text:?}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(RegionStore::open(path), Err(RegionError::Missing { .. })));
}
