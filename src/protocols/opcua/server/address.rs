//! The address space: `Objects/Weighbridge/Devices/<device>/<tag>` and `Objects/Weighbridge/Ledger`.

use super::origin::LEDGER_FIELDS;
use super::units::engineering_units;
use crate::model::{TagSpec, ValueKind};
use opcua::server::address_space::{
    AccessLevel, AddressSpace, EventNotifier, ObjectBuilder, ReferenceDirection, VariableBuilder,
};
use opcua::types::{
    DataTypeId, LocalizedText, NodeId, ObjectId, ObjectTypeId, QualifiedName, Range,
    ReferenceTypeId, VariableTypeId, Variant,
};

/// URI of the namespace that the hub's nodes are in. It stays the same for all hubs, so that a
/// client's configuration for one fits the next.
pub const NAMESPACE: &str = "urn:weighbridge:hub";

pub(super) const ROOT: &str = "Weighbridge";
const DEVICES: &str = "Weighbridge/Devices";
const LEDGER: &str = "Weighbridge/Ledger";

fn id(namespace: u16, path: &str) -> NodeId {
    NodeId::new(namespace, path)
}

fn device_path(device: &str) -> String {
    format!("{DEVICES}/{device}")
}

fn names(namespace: u16, name: &str) -> (QualifiedName, LocalizedText) {
    (
        QualifiedName::new(namespace, name),
        LocalizedText::from(name),
    )
}

/// Adds the folders and the ledger's variables; returns the latter's node ids by field.
pub(super) fn add_root(space: &mut AddressSpace, namespace: u16) -> Vec<NodeId> {
    let folder = |path: &str, parent: NodeId, name: &str| {
        let (browse_name, display_name) = names(namespace, name);
        ObjectBuilder::new(&id(namespace, path), browse_name, display_name)
            .has_type_definition(ObjectTypeId::FolderType)
            .organized_by(parent)
    };
    folder(ROOT, ObjectId::ObjectsFolder.into(), "Weighbridge").insert(space);
    folder(DEVICES, id(namespace, ROOT), "Devices").insert(space);
    folder(LEDGER, id(namespace, ROOT), "Ledger").insert(space);
    let field = |name: &&str| {
        let node = id(namespace, &format!("{LEDGER}/{name}"));
        let data_type = match *name {
            "LastBlockHash" => DataTypeId::String,
            _ => DataTypeId::UInt64,
        };
        let (browse_name, display_name) = names(namespace, name);
        VariableBuilder::new(&node, browse_name, display_name)
            .data_type(data_type)
            .has_type_definition(VariableTypeId::BaseDataVariableType)
            .component_of(id(namespace, LEDGER))
            .insert(space);
        node
    };
    LEDGER_FIELDS.iter().map(field).collect()
}

/// Adds a device and its tags, which can be written where they are `controlled`; returns the tags' node ids in their order.
pub(super) fn add_device(
    space: &mut AddressSpace,
    namespace: u16,
    device: &str,
    tags: &[TagSpec],
    controlled: bool,
) -> Vec<NodeId> {
    let path = device_path(device);
    let (browse_name, display_name) = names(namespace, device);
    ObjectBuilder::new(&id(namespace, &path), browse_name, display_name)
        .has_type_definition(ObjectTypeId::BaseObjectType)
        .event_notifier(EventNotifier::SUBSCRIBE_TO_EVENTS)
        .organized_by(id(namespace, DEVICES))
        .reference(
            ObjectId::Server,
            ReferenceTypeId::HasNotifier,
            ReferenceDirection::Inverse,
        )
        .insert(space);
    tags.iter()
        .map(|tag| add_tag(space, namespace, &path, tag, controlled))
        .collect()
}

/// Removes a device, its tags and their properties.
pub(super) fn remove_device(
    space: &mut AddressSpace,
    namespace: u16,
    device: &str,
    tags: &[TagSpec],
) {
    let path = device_path(device);
    for tag in tags {
        let tag = format!("{path}/{}", tag.name);
        for property in ["EngineeringUnits", "EURange"] {
            space.delete(&id(namespace, &property_path(&tag, property)), true);
        }
        space.delete(&id(namespace, &tag), true);
    }
    space.delete(&id(namespace, &path), true);
}

fn property_path(tag: &str, property: &str) -> String {
    // Not a slash: a tag may be called "a/EURange".
    format!("{tag}#{property}")
}

fn add_tag(
    space: &mut AddressSpace,
    namespace: u16,
    device: &str,
    tag: &TagSpec,
    controlled: bool,
) -> NodeId {
    let path = format!("{device}/{}", tag.name);
    let node = id(namespace, &path);
    let numeric = matches!(tag.kind, ValueKind::I64 | ValueKind::U64 | ValueKind::F64);
    let range = tag.range.filter(|_| numeric);
    let unit = Some(&tag.unit).filter(|unit| numeric && !unit.is_empty());
    let type_definition = match (range, unit) {
        (Some(_), _) => VariableTypeId::AnalogItemType,
        (None, Some(_)) => VariableTypeId::AnalogUnitType,
        (None, None) => VariableTypeId::BaseDataVariableType,
    };
    let (browse_name, display_name) = names(namespace, &tag.name);
    let mut access = AccessLevel::CURRENT_READ;
    access.set(AccessLevel::CURRENT_WRITE, tag.writable && controlled);
    VariableBuilder::new(&node, browse_name, display_name)
        .description(tag.description.as_str())
        .access_level(access)
        .user_access_level(access)
        .data_type(data_type(tag.kind))
        .has_type_definition(type_definition)
        .component_of(id(namespace, device))
        .insert(space);
    let mut property = |name: &str, data_type: DataTypeId, value: Variant| {
        // Names of the standard's properties are in the standard's namespace.
        let (browse_name, display_name) = names(0, name);
        let property = id(namespace, &property_path(&path, name));
        VariableBuilder::new(&property, browse_name, display_name)
            .data_type(data_type)
            .value(value)
            .has_type_definition(VariableTypeId::PropertyType)
            .property_of(node.clone())
            .insert(space);
    };
    if let Some((low, high)) = range {
        property("EURange", DataTypeId::Range, Range { low, high }.into());
    }
    if let Some(unit) = unit {
        property(
            "EngineeringUnits",
            DataTypeId::EUInformation,
            engineering_units(unit).into(),
        );
    }
    node
}

fn data_type(kind: ValueKind) -> DataTypeId {
    match kind {
        ValueKind::Bool => DataTypeId::Boolean,
        ValueKind::I64 => DataTypeId::Int64,
        ValueKind::U64 => DataTypeId::UInt64,
        ValueKind::F64 => DataTypeId::Double,
        ValueKind::Text => DataTypeId::String,
        ValueKind::Bytes => DataTypeId::ByteString,
    }
}
