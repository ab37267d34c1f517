//! The type of condition that the standard does not have, and the folder of the instances.

use super::fields::{FIELDS, FOLDER, Names, Of};
use super::node;
use opcua::server::address_space::{
    AddressSpace, ObjectBuilder, ObjectTypeBuilder, ReferenceDirection, VariableBuilder,
};
use opcua::types::{
    LocalizedText, ObjectId, ObjectTypeId, QualifiedName, ReferenceTypeId, Variant,
};

/// Path of the type's node.
pub(super) const CONTROL_CHART: &str = "Weighbridge/Types/ControlChartAlarmType";

/// The type's node with its own fields, and the folder of the instances.
pub(super) fn add_nodes(space: &mut AddressSpace, names: &Names) {
    let namespace = names.namespace;
    let id = Of::ControlChart.id(namespace);
    let name = "ControlChartAlarmType";
    ObjectTypeBuilder::new(&id, QualifiedName::new(namespace, name), name)
        .description(LocalizedText::new(
            "en",
            "A tag that its control charts or sensor checks found out of control",
        ))
        .subtype_of(ObjectTypeId::OffNormalAlarmType)
        .insert(space);
    for field in FIELDS.iter().filter(|field| field.of == Of::ControlChart) {
        let property = node(namespace, &format!("{CONTROL_CHART}/{}", field.path));
        let name = QualifiedName::new(namespace, field.path);
        VariableBuilder::new(&property, name, field.path)
            .data_type(field.data_type)
            .has_type_definition(field.node)
            .reference(
                ObjectId::ModellingRule_Mandatory,
                ReferenceTypeId::HasModellingRule,
                ReferenceDirection::Forward,
            )
            .value(Variant::Empty)
            .property_of(id.clone())
            .insert(space);
    }
    let name = QualifiedName::new(namespace, "Alarms");
    ObjectBuilder::new(&node(namespace, FOLDER), name, "Alarms")
        .has_type_definition(ObjectTypeId::FolderType)
        .organized_by(node(namespace, "Weighbridge"))
        .insert(space);
}
