//! Machinery and Robotics as a client that knows the companion specifications finds them.

use super::*;
use crate::live_view::Link;
use opcua::types::{
    BrowseDescription, BrowseDirection, BrowseResultMask, ObjectTypeId, ReferenceDescription,
};

const MACHINERY: &str = "http://opcfoundation.org/UA/Machinery/";
const ROBOTICS: &str = "http://opcfoundation.org/UA/Robotics/";
const DI: &str = "http://opcfoundation.org/UA/DI/";

async fn children(session: &Session, node: &NodeId) -> Vec<ReferenceDescription> {
    let all = BrowseDescription {
        node_id: node.clone(),
        browse_direction: BrowseDirection::Forward,
        reference_type_id: ReferenceTypeId::References.into(),
        include_subtypes: true,
        node_class_mask: 0,
        result_mask: BrowseResultMask::All as u32,
    };
    let found = session.browse(&[all], 0, None).await.unwrap().remove(0);
    found.references.unwrap_or_default()
}

/// The node at browse names, each with the URI of its namespace; "" is the standard's.
async fn at(session: &Session, from: &NodeId, path: &[(&str, &str)]) -> NodeId {
    let mut node = from.clone();
    for (uri, name) in path {
        let namespace = match *uri {
            "" => 0,
            uri => session.get_namespace_index(uri).await.unwrap(),
        };
        let wanted = QualifiedName::new(namespace, *name);
        let below = children(session, &node).await;
        let next = below.iter().find(|r| r.browse_name == wanted);
        let names: Vec<_> = below.iter().map(|r| r.browse_name.to_string()).collect();
        node = next
            .unwrap_or_else(|| panic!("no {wanted} in {names:?} of {node}"))
            .node_id
            .node_id
            .clone();
    }
    node
}

async fn type_of(session: &Session, node: &NodeId) -> NodeId {
    let has_type = NodeId::from(ReferenceTypeId::HasTypeDefinition);
    let below = children(session, node).await;
    let definition = below.iter().find(|r| r.reference_type_id == has_type);
    definition.unwrap().node_id.node_id.clone()
}

/// The plc of the tests as a robot: its temperature is where an axis stands, `open` says whether it runs.
async fn robot() -> Hub {
    let roles = [
        ("temperature", "robotics:axis/1/ActualPosition"),
        ("count", "robotics:motor/1/MotorTemperature"),
        ("open", "machinery:Executing"),
    ];
    let machine = Machine {
        machinery: MachineryConfig {
            kind: MachineKind::Robot,
            manufacturer: Some("Example".into()),
            serial_number: Some("4711".into()),
            year_of_construction: Some(2021),
            motion_device_category: Some(MotionDeviceCategory::ArticulatedRobot),
            ..Default::default()
        },
        roles: roles
            .map(|(tag, role)| (tag.to_owned(), role.parse().unwrap()))
            .into(),
    };
    let machines = Machines::default();
    machines.set([("plc-1".into(), machine)].into());
    hub_with(|_, _| {}, |ports| ports.machines = machines).await
}

#[tokio::test]
async fn every_machine_has_a_nameplate_and_a_state_in_the_machines_folder() {
    let hub = robot().await;
    let session = anonymous(&hub).await;
    let objects = NodeId::from(ObjectId::ObjectsFolder);
    let machines = at(&session, &objects, &[(MACHINERY, "Machines")]).await;
    let machinery = session.get_namespace_index(MACHINERY).await.unwrap();
    assert_eq!(machines, NodeId::new(machinery, 1001u32));
    let machine = at(&session, &machines, &[(NAMESPACE, "plc-1")]).await;
    let plate = at(&session, &machine, &[(DI, "Identification")]).await;
    assert_eq!(
        type_of(&session, &plate).await,
        NodeId::new(machinery, 1012u32)
    );
    let says = async |uri: &str, name: &str| {
        let node = at(&session, &plate, &[(uri, name)]).await;
        read(&session, &node).await
    };
    let manufacturer = says(DI, "Manufacturer").await.value;
    assert_eq!(
        manufacturer,
        Some(opcua::types::LocalizedText::from("Example").into())
    );
    assert_eq!(says(DI, "SerialNumber").await.value, Some("4711".into()));
    let year = says(MACHINERY, "YearOfConstruction").await.value;
    assert_eq!(year, Some(Variant::UInt16(2021)));
    let uri = says(DI, "ProductInstanceUri").await.value;
    assert_eq!(uri, Some("urn:weighbridge:device:plc-1".into()));

    let state = [
        (MACHINERY, "MachineryBuildingBlocks"),
        (MACHINERY, "MachineryItemState"),
        ("", "CurrentState"),
    ];
    let state = at(&session, &machine, &state).await;
    let id = at(&session, &state, &[("", "Id")]).await;
    let mut changes = subscribe(&session, &id).await;
    let is = |number: u32| {
        let wanted = Some(Variant::from(NodeId::new(machinery, number)));
        move |value: &DataValue| value.value == wanted
    };
    news(&mut changes, is(5005)).await;
    hub.plc.set_link(Link::Up);
    hub.plc.update([(2, good(Value::Bool(true)))]);
    news(&mut changes, is(5006)).await;
    hub.plc.update([(2, good(Value::Bool(false)))]);
    news(&mut changes, is(5007)).await;
    let name = read(&session, &state).await.value;
    assert_eq!(
        name,
        Some(opcua::types::LocalizedText::from("NotExecuting").into())
    );
    hub.server.shutdown().await;
}

#[tokio::test]
async fn a_robot_is_a_motion_device_system_whose_axes_are_its_tags() {
    let hub = robot().await;
    let session = anonymous(&hub).await;
    let objects = NodeId::from(ObjectId::ObjectsFolder);
    let robotics = session.get_namespace_index(ROBOTICS).await.unwrap();
    let system = at(
        &session,
        &objects,
        &[(DI, "DeviceSet"), (NAMESPACE, "plc-1")],
    )
    .await;
    let motion_device_system = NodeId::new(robotics, 1002u32);
    assert_eq!(type_of(&session, &system).await, motion_device_system);
    let device = [(ROBOTICS, "MotionDevices"), (NAMESPACE, "MotionDevice_1")];
    let device = at(&session, &system, &device).await;
    let category = at(&session, &device, &[(ROBOTICS, "MotionDeviceCategory")]).await;
    assert_eq!(
        read(&session, &category).await.value,
        Some(Variant::Int32(1))
    );
    // Asked for by the type, and nobody said which tag it is.
    let speed = [(DI, "ParameterSet"), (ROBOTICS, "SpeedOverride")];
    let speed = at(&session, &device, &speed).await;
    let missing = read(&session, &speed).await;
    assert_eq!(missing.status, Some(StatusCode::BadConfigurationError));

    let position = [
        (ROBOTICS, "Axes"),
        (NAMESPACE, "Axis_1"),
        (DI, "ParameterSet"),
        (ROBOTICS, "ActualPosition"),
    ];
    let position = at(&session, &device, &position).await;
    let mut values = subscribe(&session, &position).await;
    hub.plc.set_link(Link::Up);
    for number in [1.5, 2.5, 3.5] {
        hub.plc.update([(0, good(Value::F64(number)))]);
        let told = news(&mut values, |v| v.value == Some(number.into())).await;
        assert_eq!(told.status, Some(StatusCode::Good));
    }
    let units = at(&session, &position, &[("", "EngineeringUnits")]).await;
    let Some(Variant::ExtensionObject(units)) = read(&session, &units).await.value else {
        panic!("a unit is a structure");
    };
    let units = units.inner_as::<EUInformation>().unwrap();
    assert_eq!(units.display_name.text.as_ref(), "°C");
    // A whole number where the type asks for a fraction.
    let temperature = [
        (ROBOTICS, "PowerTrains"),
        (NAMESPACE, "PowerTrain_1"),
        (NAMESPACE, "Motor_1"),
        (DI, "ParameterSet"),
        (ROBOTICS, "MotorTemperature"),
    ];
    let temperature = at(&session, &device, &temperature).await;
    hub.plc.update([(1, good(Value::U64(61)))]);
    assert_eq!(read(&session, &temperature).await.value, Some(61.0.into()));
    hub.server.shutdown().await;
}

#[tokio::test]
async fn the_types_are_there_below_their_supertypes() {
    let hub = robot().await;
    let session = anonymous(&hub).await;
    let robotics = session.get_namespace_index(ROBOTICS).await.unwrap();
    let base = NodeId::from(ObjectTypeId::BaseObjectType);
    let axis = [
        (DI, "TopologyElementType"),
        (DI, "ComponentType"),
        (ROBOTICS, "AxisType"),
    ];
    let axis = at(&session, &base, &axis).await;
    assert_eq!(axis, NodeId::new(robotics, 16601u32));
    let declared = [(DI, "ParameterSet"), (ROBOTICS, "ActualPosition")];
    let declared = at(&session, &axis, &declared).await;
    assert_eq!(declared, NodeId::new(robotics, 16662u32));
    hub.server.shutdown().await;
}

#[tokio::test]
async fn a_device_that_nobody_described_is_a_machine_all_the_same() {
    let hub = hub(|_, _| {}).await;
    let session = anonymous(&hub).await;
    let objects = NodeId::from(ObjectId::ObjectsFolder);
    let plate = [
        (MACHINERY, "Machines"),
        (NAMESPACE, "plc-1"),
        (DI, "Identification"),
    ];
    let plate = at(&session, &objects, &plate).await;
    let serial = at(&session, &plate, &[(DI, "SerialNumber")]).await;
    let serial = read(&session, &serial).await;
    assert_eq!(serial.status, Some(StatusCode::BadConfigurationError));
    let set = at(&session, &objects, &[(DI, "DeviceSet")]).await;
    let below = children(&session, &set).await;
    let own = session.get_namespace_index(NAMESPACE).await.unwrap();
    assert!(below.iter().all(|r| r.browse_name.namespace_index != own));
    // A device that is replaced is there once.
    let tags = [tag("speed", ValueKind::F64, "", None)];
    hub.live.register("plc-1".into(), tags.into());
    hub.server.refresh();
    let machines = at(&session, &objects, &[(MACHINERY, "Machines")]).await;
    let below = children(&session, &machines).await;
    let own = below
        .iter()
        .filter(|r| r.browse_name.namespace_index == own);
    assert_eq!(own.count(), 1);
    hub.server.shutdown().await;
}

/// What a client reads of these addresses, when every one that can be has a value.
async fn read_all(hub: &Hub, addresses: &[String]) -> Vec<(crate::model::Quality, Value)> {
    use crate::model::BatchBuilder;
    use crate::protocols::Source;
    use crate::protocols::opcua::{OpcUaConfig, OpcUaPoint, OpcUaSource};
    let point = |(i, address): (usize, &String)| {
        let point = OpcUaPoint::new(address.parse().unwrap(), ValueKind::F64);
        (tag(&format!("t{i}"), ValueKind::F64, "", None), point)
    };
    let points = addresses.iter().enumerate().map(point).collect();
    let config = OpcUaConfig::new(hub.server.url());
    let mut source = OpcUaSource::new("robot".into(), config, points).unwrap();
    source.connect().await.unwrap();
    let mut out = BatchBuilder::subscribing("robot".into(), source.tags());
    let reading = async {
        while out.newest().count() < addresses.len() {
            source.read(&mut out).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    let mut newest: Vec<_> = out.newest().collect();
    newest.sort_by_key(|(column, ..)| *column);
    source.close().await;
    newest
        .into_iter()
        .map(|(_, _, quality, value)| (quality, value))
        .collect()
}

#[tokio::test]
async fn a_client_finds_a_robots_values_by_browse_paths() {
    let hub = robot().await;
    hub.plc.set_link(Link::Up);
    hub.plc
        .update([(0, good(Value::F64(12.5))), (1, good(Value::U64(61)))]);
    let (di, rob) = (format!("nsu={DI};"), format!("nsu={ROBOTICS};"));
    let system = format!("/{di}DeviceSet/*");
    let device = format!("{system}/{rob}MotionDevices/*");
    let axis = format!("{di}ParameterSet/{rob}ActualPosition");
    let motor = format!("{di}ParameterSet/{rob}MotorTemperature");
    let addresses = [
        // By what the standard names, whatever this server calls the rest.
        format!("{device}/{rob}Axes/*[1]/{axis}"),
        format!("{device}/{rob}PowerTrains/*[1]/*/{motor}"),
        // By all names; and with names of whatever namespace.
        format!(
            "/{di}DeviceSet/nsu={NAMESPACE};plc-1/{rob}MotionDevices/nsu={NAMESPACE};MotionDevice_1/\
             {rob}Axes/nsu={NAMESPACE};Axis_1/{axis}"
        ),
        format!("{system}/*:MotionDevices/*:MotionDevice_1/*:Axes/*:Axis_1/{axis}"),
        // There is no second axis, no such name, and no such namespace.
        format!("{device}/{rob}Axes/*[2]/{axis}"),
        format!("{device}/{rob}Axes/*[1]/{di}ParameterSet/{rob}NoSuch"),
        "/nsu=urn:nowhere;DeviceSet/1:x".to_owned(),
    ];
    let read = read_all(&hub, &addresses).await;
    let expected = [12.5, 61.0, 12.5, 12.5];
    for ((quality, value), expected) in read.iter().zip(expected) {
        assert_eq!((*quality, value), (Quality::GOOD, &Value::F64(expected)));
    }
    assert!(
        read[4..].iter().all(|(quality, _)| quality.is_bad()),
        "{read:?}"
    );
    hub.server.shutdown().await;
}
