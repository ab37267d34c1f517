//! The type of condition that the standard does not have, and what the stack's tree of types lacks.

use super::fields::{FIELDS, FOLDER, Names, Of};
use super::node;
use opcua::nodes::DefaultTypeTree;
use opcua::server::address_space::{
    AddressSpace, ObjectBuilder, ObjectTypeBuilder, ReferenceDirection, VariableBuilder,
};
use opcua::types::{
    LocalizedText, NodeClass, ObjectId, ObjectTypeId, QualifiedName, ReferenceTypeId, Variant,
};

/// Path of the type's node.
pub(super) const CONTROL_CHART: &str = "Weighbridge/Types/ControlChartAlarmType";

/// Makes the fields of conditions known to event filters. The stack looks for a field in the named
/// type only, not in its supertypes, and drops a clause that it does not find from the answers, which
/// moves all that follow: so inherited fields are named for every type. It also does not know the
/// ConditionId, the empty path (OPC 10000-9, 5.5.2).
pub(super) fn add(types: &mut DefaultTypeTree, names: &Names) {
    let namespace = names.namespace;
    types.add_type_node(
        &Of::ControlChart.id(namespace),
        &Of::OffNormal.id(namespace),
        NodeClass::ObjectType,
    );
    for of in Of::ALL {
        let id = of.id(namespace);
        if of != Of::Event {
            let condition = node(namespace, &format!("{CONTROL_CHART}#{of:?}/ConditionId"));
            types.add_type_property(&condition, &id, &[], NodeClass::Object);
        }
        for field in FIELDS.iter().filter(|field| of.has(field.of)) {
            let property = node(namespace, &format!("{CONTROL_CHART}#{of:?}/{}", field.path));
            // Clients write our own names in our namespace, or in the standard's.
            let mut spaces = vec![0];
            if field.of == Of::ControlChart {
                spaces.push(namespace);
            }
            for space in spaces {
                let path = field.path.split('/');
                let path: Vec<_> = path.map(|name| QualifiedName::new(space, name)).collect();
                let path: Vec<_> = path.iter().collect();
                types.add_type_property(&property, &id, &path, NodeClass::Variable);
            }
        }
    }
}

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
