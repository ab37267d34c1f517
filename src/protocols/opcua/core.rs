//! The standard's own namespace, without what this hub does not have.
//!
//! The stack puts all 5,100 nodes of the standard into every server's address space, some 13 MB,
//! half of them the insides of types for publish-subscribe, certificate management and other things
//! that are not offered here. Types stay; it is their unused insides that are left out.

use opcua::core_namespace::CoreNamespace;
use opcua::nodes::{HasNodeId, ImportedItem, NodeSetImport, NodeSetNamespaceMapper};
use opcua::server::ServerBuilder;
use opcua::server::address_space::AddressSpace;
use opcua::server::diagnostics::DiagnosticsNodeManagerBuilder;
use opcua::server::node_manager::memory::{
    CoreNodeManager, CoreNodeManagerBuilder, InMemoryNodeManagerBuilder,
};
use opcua::server::node_manager::{DynNodeManager, NodeManagerBuilder, ServerContext};
use opcua::types::{
    NodeClass, NodeId, ObjectId, ObjectTypeId, ReferenceTypeId, VariableId, VariableTypeId,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How much of the standard's namespace a server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All types, the server object, and the insides of the types of variables and events.
    Server,
    /// What a small controller has: folders, the server's status, a few types.
    Controller,
}

/// A server builder whose namespace 0 has this extent.
pub(crate) fn server_builder(extent: Extent) -> ServerBuilder {
    ServerBuilder::new()
        .without_node_managers()
        .with_node_manager(Core(extent))
        .with_node_manager(DiagnosticsNodeManagerBuilder)
}

/// The stack's manager of namespace 0, of this extent.
pub(crate) struct Core(pub(crate) Extent);

impl NodeManagerBuilder for Core {
    fn build(self: Box<Self>, context: ServerContext) -> Arc<DynNodeManager> {
        // The stack's manager of these nodes cannot be made without them, so they are replaced.
        let whole = InMemoryNodeManagerBuilder::new(CoreNodeManagerBuilder);
        let manager = Box::new(whole).build(context.clone());
        if let Ok(core) = manager.clone().into_any_arc().downcast::<CoreNodeManager>() {
            *core.address_space().write() = AddressSpace::new();
            *core.address_space().write() = address_space(self.0, &context);
        }
        manager
    }
}

fn address_space(extent: Extent, context: &ServerContext) -> AddressSpace {
    let mut type_tree = context.type_tree.write();
    let mut mapper = NodeSetNamespaceMapper::new(type_tree.namespaces_mut());
    CoreNamespace.register_namespaces(&mut mapper);
    let wanted = wanted(extent, &mapper);
    let mut space = AddressSpace::new();
    space.add_namespace("http://opcfoundation.org/UA/", 0);
    for item in CoreNamespace.load(&mapper) {
        if wanted.contains(item.node.node_id()) {
            let ImportedItem {
                node,
                mut references,
            } = item;
            references.retain(|r| wanted.contains(&r.target_id));
            space.import_node(ImportedItem { node, references });
        }
    }
    space
}

/// A node's class, and the node it is part of.
struct Place {
    class: NodeClass,
    parent: Option<NodeId>,
}

fn wanted(extent: Extent, mapper: &NodeSetNamespaceMapper<'_>) -> HashSet<NodeId> {
    let mut places: HashMap<NodeId, Place> = HashMap::new();
    let mut downward = Vec::new();
    for item in CoreNamespace.load(mapper) {
        let id = item.node.node_id().clone();
        let mut parent = None;
        for reference in item.references.iter().filter(|r| is_part(&r.type_id)) {
            if reference.is_forward {
                downward.push((reference.target_id.clone(), id.clone()));
            } else {
                parent = Some(reference.target_id.clone());
            }
        }
        let class = item.node.node_class();
        places.insert(id, Place { class, parent });
    }
    for (child, parent) in downward {
        if let Some(place) = places.get_mut(&child) {
            place.parent.get_or_insert(parent);
        }
    }
    let keeps = |id: &NodeId| match extent {
        Extent::Server => server_keeps(id, &places),
        Extent::Controller => controller_keeps(id, &places),
    };
    places.keys().filter(|id| keeps(id)).cloned().collect()
}

fn is_part(reference_type: &NodeId) -> bool {
    matches!(
        reference_type.as_reference_type_id(),
        Ok(ReferenceTypeId::HasComponent
            | ReferenceTypeId::HasProperty
            | ReferenceTypeId::HasOrderedComponent
            | ReferenceTypeId::Organizes
            | ReferenceTypeId::HasSubtype
            | ReferenceTypeId::HasEncoding
            | ReferenceTypeId::HasDescription)
    )
}

/// The node and what it is part of, from the inside out; bounded, in case of a circle.
fn ancestry<'a>(
    id: &'a NodeId,
    places: &'a HashMap<NodeId, Place>,
) -> impl Iterator<Item = (&'a NodeId, NodeClass)> {
    let at = |id: &'a NodeId| places.get(id).map(|p| (id, p));
    std::iter::successors(at(id), move |(_, place)| at(place.parent.as_ref()?))
        .map(|(id, place)| (id, place.class))
        .take(64)
}

fn is_type(class: NodeClass) -> bool {
    matches!(
        class,
        NodeClass::ObjectType
            | NodeClass::VariableType
            | NodeClass::DataType
            | NodeClass::ReferenceType
    )
}

fn server_keeps(id: &NodeId, places: &HashMap<NodeId, Place>) -> bool {
    let Some((_, class)) = ancestry(id, places).next() else {
        return false;
    };
    if is_type(class) {
        return true;
    }
    let events = NodeId::from(ObjectTypeId::BaseEventType);
    let absent = [
        NodeId::from(ObjectId::PublishSubscribe),
        NodeId::from(ObjectId::ServerConfiguration),
    ];
    match ancestry(id, places).find(|(_, class)| is_type(*class)) {
        Some((within, NodeClass::ObjectType)) => {
            ancestry(within, places).any(|(id, _)| *id == events)
        }
        Some(_) => true,
        // Part of the folders and the server object, or of nothing at all.
        None => {
            let root = NodeId::from(ObjectId::RootFolder);
            ancestry(id, places).any(|(id, _)| *id == root)
                && !ancestry(id, places).any(|(id, _)| absent.contains(id))
        }
    }
}

fn controller_keeps(id: &NodeId, places: &HashMap<NodeId, Place>) -> bool {
    let Some(place) = places.get(id) else {
        return false;
    };
    let nodes: [NodeId; 21] = [
        ObjectId::RootFolder.into(),
        ObjectId::ObjectsFolder.into(),
        ObjectId::TypesFolder.into(),
        ObjectId::ViewsFolder.into(),
        ObjectId::Server.into(),
        VariableId::Server_ServerArray.into(),
        VariableId::Server_NamespaceArray.into(),
        VariableId::Server_ServiceLevel.into(),
        VariableId::Server_ServerStatus.into(),
        VariableId::Server_ServerStatus_State.into(),
        VariableId::Server_ServerStatus_StartTime.into(),
        VariableId::Server_ServerStatus_CurrentTime.into(),
        VariableId::Server_ServerStatus_BuildInfo.into(),
        ObjectTypeId::BaseObjectType.into(),
        ObjectTypeId::FolderType.into(),
        ObjectTypeId::ServerType.into(),
        VariableTypeId::BaseVariableType.into(),
        VariableTypeId::BaseDataVariableType.into(),
        VariableTypeId::PropertyType.into(),
        VariableTypeId::ServerStatusType.into(),
        VariableTypeId::BuildInfoType.into(),
    ];
    place.class == NodeClass::ReferenceType || nodes.contains(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opcua::types::{DataTypeId, NamespaceMap};

    fn kept(extent: Extent) -> HashSet<NodeId> {
        let mut namespaces = NamespaceMap::new();
        let mut mapper = NodeSetNamespaceMapper::new(&mut namespaces);
        CoreNamespace.register_namespaces(&mut mapper);
        wanted(extent, &mapper)
    }

    #[test]
    fn a_server_keeps_its_types_its_state_and_events() {
        let kept = kept(Extent::Server);
        for id in [
            NodeId::from(ObjectTypeId::PublishSubscribeType),
            DataTypeId::EUInformation.into(),
            VariableTypeId::AnalogItemType.into(),
            VariableId::AnalogItemType_EURange.into(),
            VariableId::BaseEventType_Message.into(),
            VariableId::Server_ServerStatus_State.into(),
            VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerRead.into(),
        ] {
            assert!(kept.contains(&id), "{id} is missing");
        }
        assert!(!kept.contains(&VariableId::PublishSubscribeType_Status_State.into()));
        assert!(!kept.contains(&ObjectId::PublishSubscribe.into()));
        assert!((1_500..3_500).contains(&kept.len()), "{}", kept.len());
    }

    #[test]
    fn a_controller_keeps_little() {
        let kept = kept(Extent::Controller);
        assert!(kept.contains(&VariableId::Server_NamespaceArray.into()));
        assert!(kept.contains(&ReferenceTypeId::HasComponent.into()));
        assert!(kept.len() < 120, "{}", kept.len());
    }
}
