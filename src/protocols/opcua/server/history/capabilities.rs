//! What the server says of its history: HistoryServerCapabilities (OPC 10000-11, 5.4.2), the aggregate
//! functions there are, and which variables have a history.

use super::MAX_VALUES;
use super::aggregates::Aggregate;
use opcua::nodes::NodeType;
use opcua::server::address_space::{AccessLevel, AddressSpace, ObjectBuilder};
use opcua::types::{NodeId, ObjectId, ObjectTypeId, ReferenceTypeId, VariableId, Variant};

/// What one of the capabilities says where there is history; `None` for any other node. The stack
/// answers for those that are not there.
pub(in crate::protocols::opcua::server) fn capability(node: &NodeId) -> Option<Variant> {
    match node.as_variable_id() {
        Ok(VariableId::HistoryServerCapabilities_AccessHistoryDataCapability) => Some(true.into()),
        Ok(VariableId::HistoryServerCapabilities_MaxReturnDataValues) => {
            Some(u32::try_from(MAX_VALUES).unwrap_or(u32::MAX).into())
        }
        _ => None,
    }
}

/// Adds the functions to the two folders that list them.
pub(in crate::protocols::opcua::server) fn add_functions(space: &mut AddressSpace) {
    for (aggregate, id) in Aggregate::ALL {
        let name = format!("{aggregate:?}");
        let id = NodeId::from(id);
        if !space.node_exists(&id) {
            ObjectBuilder::new(&id, name.as_str(), name.as_str())
                .description(aggregate.description())
                .has_type_definition(ObjectTypeId::AggregateFunctionType)
                .insert(space);
        }
        for folder in [
            ObjectId::HistoryServerCapabilities_AggregateFunctions,
            ObjectId::Server_ServerCapabilities_AggregateFunctions,
        ] {
            let folder = NodeId::from(folder);
            space.insert_reference(&folder, &id, ReferenceTypeId::Organizes);
        }
    }
}

/// Marks variables as having a history.
pub(in crate::protocols::opcua::server) fn historize(space: &mut AddressSpace, nodes: &[NodeId]) {
    for node in nodes {
        if let Some(NodeType::Variable(variable)) = space.find_mut(node) {
            variable.set_historizing(true);
            let level = variable.access_level() | AccessLevel::HISTORY_READ;
            variable.set_access_level(level);
            let level = variable.user_access_level() | AccessLevel::HISTORY_READ;
            variable.set_user_access_level(level);
        }
    }
}
