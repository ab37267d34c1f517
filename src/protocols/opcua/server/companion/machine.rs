//! OPC UA for Machinery (OPC 40001-1): the folder of all machines, a machine's nameplate and its state.

use super::Machine;
use super::config::{MachineKind, Part};
use super::instance::{Builder, Name, Supply};
use super::point::{Point, Shape};
use super::robot;
use super::types::{Short, Spaces};
use crate::live_view::DeviceLive;
use opcua::server::address_space::{AddressSpace, ObjectBuilder, VariableBuilder};
use opcua::types::{
    DataTypeId, LocalizedText, NodeId, ObjectId, ObjectTypeId, ReferenceTypeId, VariableTypeId,
    Variant,
};

const MACHINES: Short = Short("M:1001");
const DEVICE_SET: Short = Short("DI:5001");
const BASE_OBJECT: Short = Short("UA:58");
const FOLDER: Short = Short("UA:61");

/// `Objects/Machines` and `Objects/DeviceSet`.
pub(super) fn add_folders(space: &mut AddressSpace, spaces: Spaces) {
    for (id, name, of) in [
        (MACHINES, "M:Machines", ObjectTypeId::FolderType),
        (DEVICE_SET, "DI:DeviceSet", ObjectTypeId::BaseObjectType),
    ] {
        let name = spaces.name(Short(name));
        let text = LocalizedText::from(name.name.as_ref());
        ObjectBuilder::new(&spaces.id(id), name, text)
            .has_type_definition(of)
            .organized_by(ObjectId::ObjectsFolder)
            .insert(space);
    }
}

/// Adds a device's machine; a robot's is its motion device system.
pub(super) fn add(builder: &mut Builder<'_>, live: &DeviceLive, machine: &Machine) {
    let path = format!("Machines/{}", live.id);
    let is_robot = machine.machinery.kind == MachineKind::Robot;
    let of = if is_robot { robot::SYSTEM } else { BASE_OBJECT };
    let folder = builder.spaces.id(MACHINES);
    let parent = (&folder, ReferenceTypeId::Organizes);
    let name = Name::Own(&live.id);
    let name_of = |below: &str| plate(machine, live, below);
    let id = builder.object(&path, name, of, parent, &name_of);
    // The tags as the hub has them.
    let tags = builder.id(&format!("Weighbridge/Devices/{}", live.id));
    builder
        .space
        .insert_reference(&id, &tags, ReferenceTypeId::Organizes);
    if is_robot {
        let set = builder.spaces.id(DEVICE_SET);
        builder
            .space
            .insert_reference(&set, &id, ReferenceTypeId::HasComponent);
        robot::add(builder, (&path, &id), live, machine);
    }
    let plate_path = format!("{path}/Identification");
    let add_in = ReferenceTypeId::HasAddIn;
    let identification = Name::Known(Short("DI:Identification"));
    let of = Short("M:1012");
    let plate = builder.object(&plate_path, identification, of, (&id, add_in), &name_of);
    let blocks_path = format!("{path}/MachineryBuildingBlocks");
    let blocks = Name::Known(Short("M:MachineryBuildingBlocks"));
    let nothing = |_: &str| None;
    let blocks = builder.object(&blocks_path, blocks, FOLDER, (&id, add_in), &nothing);
    builder.space.insert_reference(&blocks, &plate, add_in);
    let executing = robot::tag_of(live, machine, Part::Machine, "Executing").map(|(tag, _)| tag);
    state(builder, &path, &blocks, executing);
}

/// MachineryItemState: a finite state machine's CurrentState with its Id.
fn state(builder: &mut Builder<'_>, path: &str, blocks: &NodeId, executing: Option<usize>) {
    let path = format!("{path}/MachineryItemState");
    let name = Name::Known(Short("M:MachineryItemState"));
    let parent = (blocks, ReferenceTypeId::HasAddIn);
    let nothing = |_: &str| None;
    let machine = builder.object(&path, name, Short("M:1002"), parent, &nothing);
    let current = builder.id(&format!("{path}/CurrentState"));
    VariableBuilder::new(&current, "CurrentState", "CurrentState")
        .data_type(DataTypeId::LocalizedText)
        .has_type_definition(VariableTypeId::FiniteStateVariableType)
        .component_of(machine)
        .insert(builder.space);
    let id = builder.id(&format!("{path}/CurrentState/Id"));
    VariableBuilder::new(&id, "Id", "Id")
        .data_type(DataTypeId::NodeId)
        .has_type_definition(VariableTypeId::PropertyType)
        .property_of(current.clone())
        .insert(builder.space);
    builder.nodes.extend([current.clone(), id.clone()]);
    let shape = Shape::StateId(builder.spaces.machinery);
    builder.points.extend([
        (current, Point::State(executing, Shape::StateName)),
        (id, Point::State(executing, shape)),
    ]);
}

/// What the nameplate says.
pub(super) fn plate(machine: &Machine, live: &DeviceLive, name: &str) -> Option<Supply> {
    let plate = &machine.machinery;
    let text = |text: &Option<String>| text.as_deref().map(Variant::from);
    let localized =
        |text: &Option<String>| text.as_deref().map(LocalizedText::from).map(Variant::from);
    let value = match name {
        "Manufacturer" => localized(&plate.manufacturer),
        "ManufacturerUri" => text(&plate.manufacturer_uri),
        "Model" => localized(&plate.model),
        "ProductCode" => text(&plate.product_code),
        "SerialNumber" => text(&plate.serial_number),
        "ProductInstanceUri" => {
            let own = || format!("urn:weighbridge:device:{}", live.id);
            let uri = plate.product_instance_uri.clone().unwrap_or_else(own);
            Some(Variant::from(uri.as_str()))
        }
        "HardwareRevision" => text(&plate.hardware_revision),
        "SoftwareRevision" => text(&plate.software_revision),
        "DeviceClass" => text(&plate.device_class),
        "AssetId" => text(&plate.asset_id),
        "ComponentName" => localized(&plate.component_name),
        "Location" => text(&plate.location),
        "YearOfConstruction" => plate.year_of_construction.map(Variant::UInt16),
        _ => None,
    };
    value.map(Supply::Fixed)
}
