//! The roles in the address space (OPC 10000-18), and what each node says of who may do what with it
//! (OPC 10000-3, 5.2.9 to 5.2.11).
//!
//! The stack has no such attributes, and shows everybody's rights as one user's. Requests are not decided
//! by what is told here but where they are carried out, and recorded.

use super::address::ROOT;
use super::callers::Callers;
use crate::access::{Right, Role};
use opcua::server::address_space::{
    AccessLevel, AddressSpace, EventNotifier, NodeType, ObjectBuilder, VariableBuilder,
};
use opcua::server::authenticator::UserToken;
use opcua::server::node_manager::ReadNode;
use opcua::sync::RwLock;
use opcua::types::{
    AttributeId, DataTypeId, DataValue, ExtensionObject, NodeId, ObjectId, ObjectTypeId,
    PermissionType, QualifiedName, RolePermissionType, StatusCode, VariableTypeId, Variant,
};
use std::sync::{Arc, OnceLock};

/// `SessionRequired`, and `SigningRequired` with it (OPC 10000-3, 8.56).
const SESSION: u16 = 4;
const SIGNED_SESSION: u16 = 5;

/// What the nodes say of who may do what.
pub(super) struct Roles {
    callers: Arc<Callers>,
    restrictions: u16,
    namespace: OnceLock<u16>,
}

impl Roles {
    /// For users; `unsigned` where sessions without security are let in.
    pub(super) fn new(callers: Arc<Callers>, unsigned: bool) -> Self {
        Self {
            callers,
            restrictions: if unsigned { SESSION } else { SIGNED_SESSION },
            namespace: OnceLock::new(),
        }
    }

    /// Adds the role that the standard does not have to its set of roles, in the hub's namespace.
    pub(super) fn add(&self, space: &mut AddressSpace, namespace: u16) {
        // The same for every stack.
        let _ = self.namespace.set(namespace);
        let role = role_id(Role::Auditor, namespace);
        let name = QualifiedName::new(namespace, "Auditor");
        ObjectBuilder::new(&role, name, "Auditor")
            .has_type_definition(ObjectTypeId::RoleType)
            .component_of(ObjectId::Server_ServerCapabilities_RoleSet)
            .insert(space);
        let identities = NodeId::new(namespace, format!("{ROOT}/Roles/Auditor#Identities"));
        // Who has it is in the configuration, and nobody else's business.
        VariableBuilder::new(
            &identities,
            QualifiedName::new(0, "Identities"),
            "Identities",
        )
        .data_type(DataTypeId::IdentityMappingRuleType)
        .value_rank(1)
        .value(Variant::from(Vec::<ExtensionObject>::new()))
        .access_level(AccessLevel::empty())
        .user_access_level(AccessLevel::empty())
        .has_type_definition(VariableTypeId::PropertyType)
        .property_of(role)
        .insert(space);
    }

    /// Sets what nodes of `space` say of rights, where that was asked for.
    pub(super) fn tell(
        &self,
        token: &UserToken,
        space: &RwLock<AddressSpace>,
        nodes: &mut [&mut ReadNode],
    ) {
        use AttributeId as A;
        for read in nodes {
            let attribute = read.node().attribute_id;
            let told = match attribute {
                A::RolePermissions | A::UserRolePermissions | A::AccessRestrictions => {
                    read.node().node_id.namespace != 0
                }
                A::UserAccessLevel | A::UserExecutable => true,
                _ => false,
            };
            if !told {
                continue;
            }
            let space = space.read();
            let Some(node) = space.find(&read.node().node_id) else {
                continue;
            };
            match self.attribute(token, attribute, node) {
                Ok(Some(value)) => {
                    let told = DataValue {
                        value: Some(value),
                        status: Some(StatusCode::Good),
                        ..DataValue::null()
                    };
                    read.set_result(told);
                }
                Ok(None) => {}
                Err(status) => read.set_error(status),
            }
        }
    }

    /// The value of an attribute that is told here; `None` where the stack's stands.
    fn attribute(
        &self,
        token: &UserToken,
        attribute: AttributeId,
        node: &NodeType,
    ) -> Result<Option<Variant>, StatusCode> {
        let may = |right| self.callers.may(token, right);
        Ok(match attribute {
            // Who may do what is told to those who set machines up.
            AttributeId::RolePermissions if !may(Right::Call) => {
                return Err(StatusCode::BadUserAccessDenied);
            }
            AttributeId::RolePermissions => Some(self.permissions(node, &Role::ALL)),
            AttributeId::UserRolePermissions => {
                Some(self.permissions(node, &self.callers.roles(token)))
            }
            AttributeId::AccessRestrictions => Some(Variant::UInt16(self.restrictions)),
            AttributeId::UserAccessLevel => match node {
                NodeType::Variable(v) if may_not_see_past(v.user_access_level(), &may) => {
                    // What the stack says, less the history.
                    let mut level = v.user_access_level();
                    level.remove(AccessLevel::HISTORY_READ);
                    if !may(Right::Write) {
                        level.remove(AccessLevel::CURRENT_WRITE);
                    }
                    if !may(Right::Live) {
                        level.remove(AccessLevel::CURRENT_READ);
                    }
                    Some(Variant::Byte(level.bits()))
                }
                _ => None,
            },
            AttributeId::UserExecutable => match (node, right_to_call(node)) {
                (NodeType::Method(_), Some(right)) if !may(right) => Some(Variant::Boolean(false)),
                _ => None,
            },
            _ => None,
        })
    }

    fn permissions(&self, node: &NodeType, roles: &[Role]) -> Variant {
        let namespace = self.namespace.get().copied().unwrap_or_default();
        let of_role = |role: &Role| RolePermissionType {
            role_id: role_id(*role, namespace),
            permissions: permissions(node, *role),
        };
        let each = roles.iter().map(of_role);
        Variant::from(each.map(ExtensionObject::from_message).collect::<Vec<_>>())
    }
}

fn may_not_see_past(level: AccessLevel, may: &impl Fn(Right) -> bool) -> bool {
    level.contains(AccessLevel::HISTORY_READ) && !may(Right::History)
}

/// The node of a role: the standard's where it has one.
fn role_id(role: Role, namespace: u16) -> NodeId {
    match role {
        Role::Observer => ObjectId::WellKnownRole_Observer.into(),
        Role::Operator => ObjectId::WellKnownRole_Operator.into(),
        Role::Engineer => ObjectId::WellKnownRole_Engineer.into(),
        Role::Supervisor => ObjectId::WellKnownRole_Supervisor.into(),
        Role::Auditor => NodeId::new(namespace, format!("{ROOT}/Roles/Auditor")),
        Role::SecurityAdmin => ObjectId::WellKnownRole_SecurityAdmin.into(),
        Role::ConfigureAdmin => ObjectId::WellKnownRole_ConfigureAdmin.into(),
    }
}

/// What a role may do with a node.
fn permissions(node: &NodeType, role: Role) -> PermissionType {
    let mut all = PermissionType::Browse;
    let mut add = |permission, has: bool, right| {
        if has && role.carries(right) {
            all |= permission;
        }
    };
    add(PermissionType::ReadRolePermissions, true, Right::Call);
    match node {
        NodeType::Variable(variable) => {
            let level = variable.access_level();
            let has = |bit| level.contains(bit);
            let (read, write) = (AccessLevel::CURRENT_READ, AccessLevel::CURRENT_WRITE);
            add(PermissionType::Read, has(read), Right::Live);
            add(PermissionType::Write, has(write), Right::Write);
            let past = has(AccessLevel::HISTORY_READ);
            add(PermissionType::ReadHistory, past, Right::History);
        }
        NodeType::Object(object) => {
            let events = object.event_notifier();
            let has = events.contains(EventNotifier::SUBSCRIBE_TO_EVENTS);
            add(PermissionType::ReceiveEvents, has, Right::Live);
        }
        NodeType::Method(_) => {
            let right = right_to_call(node).unwrap_or(Right::Live);
            add(PermissionType::Call, true, right);
        }
        _ => {}
    }
    all
}

/// What a method's caller must be allowed to do; `None` where anybody may call it.
fn right_to_call(node: &NodeType) -> Option<Right> {
    match node.as_node().browse_name().name.as_ref() {
        "GetEvidence" => Some(Right::Evidence),
        "Acknowledge" | "Confirm" | "AddComment" => Some(Right::Acknowledge),
        "TimedShelve" | "OneShotShelve" | "Unshelve" | "Enable" | "Disable" => Some(Right::Shelve),
        "ConditionRefresh" | "ConditionRefresh2" => Some(Right::Live),
        _ => None,
    }
}
