//! What nodes say of who may do what with them.

use super::*;
use crate::access::Role;
use opcua::types::{BrowseDescription, MethodId, PermissionType, RolePermissionType};

async fn attribute(session: &Session, node: &NodeId, attribute: AttributeId) -> DataValue {
    let wanted = ReadValueId {
        node_id: node.clone(),
        attribute_id: attribute as u32,
        ..Default::default()
    };
    let both = TimestampsToReturn::Both;
    session.read(&[wanted], both, 0.0).await.unwrap().remove(0)
}

/// Roles and permissions.
fn permissions(data: &DataValue) -> Vec<(NodeId, PermissionType)> {
    let Some(Variant::Array(array)) = &data.value else {
        panic!("{data:?}");
    };
    let each = array.values.iter().map(|value| match value {
        Variant::ExtensionObject(object) => object.inner_as::<RolePermissionType>().unwrap(),
        other => panic!("{other:?}"),
    });
    each.map(|p| (p.role_id.clone(), p.permissions)).collect()
}

async fn hub_of(role: Role) -> Hub {
    hub(|_, config| config.anonymous_roles = vec![role]).await
}

#[tokio::test]
async fn a_node_tells_each_user_what_they_may() {
    use AttributeId as A;
    use PermissionType as P;
    let path = ["Weighbridge", "GetEvidence"];
    for (role, id, level, evidence) in [
        (Role::Observer, ObjectId::WellKnownRole_Observer, 1, false),
        (
            Role::Operator,
            ObjectId::WellKnownRole_Operator,
            1 + 2 + 4,
            false,
        ),
        (
            Role::Supervisor,
            ObjectId::WellKnownRole_Supervisor,
            1 + 2 + 4,
            true,
        ),
    ] {
        let hub = hub_of(role).await;
        let session = anonymous(&hub).await;
        let node = tag_node(&session, "setpoint").await;
        let told = attribute(&session, &node, A::UserAccessLevel).await.value;
        assert_eq!(told, Some(Variant::Byte(level)), "{role:?}");
        let mine = attribute(&session, &node, A::UserRolePermissions).await;
        let mine = permissions(&mine);
        assert_eq!(mine.len(), 1);
        assert_eq!(mine[0].0, id);
        assert_eq!(mine[0].1.contains(P::Write), level & 2 != 0, "{role:?}");
        assert_eq!(mine[0].1.contains(P::ReadHistory), level & 4 != 0);
        let restrictions = attribute(&session, &node, A::AccessRestrictions).await;
        assert_eq!(restrictions.value, Some(Variant::UInt16(4)));

        let method = find(&session, &path).await.unwrap();
        let executable = attribute(&session, &method, A::UserExecutable).await;
        assert_eq!(
            executable.value,
            Some(Variant::Boolean(evidence)),
            "{role:?}"
        );
        let shelve = MethodId::AlarmConditionType_ShelvingState_Unshelve.into();
        let executable = attribute(&session, &shelve, A::UserExecutable).await;
        assert_eq!(
            executable.value,
            Some(Variant::Boolean(evidence)),
            "{role:?}"
        );

        let all = attribute(&session, &node, A::RolePermissions).await;
        match role {
            Role::Supervisor => assert_eq!(permissions(&all).len(), Role::ALL.len()),
            _ => assert_eq!(all.status, Some(StatusCode::BadUserAccessDenied)),
        }
    }
}

#[tokio::test]
async fn the_set_of_roles_has_ours() {
    let hub = hub(|_, _| {}).await;
    let session = anonymous(&hub).await;
    let browse = BrowseDescription {
        node_id: ObjectId::Server_ServerCapabilities_RoleSet.into(),
        include_subtypes: true,
        result_mask: 63,
        ..Default::default()
    };
    let found = session.browse(&[browse], 0, None).await.unwrap().remove(0);
    let found = found.references.unwrap_or_default();
    let names: Vec<_> = found
        .iter()
        .map(|r| r.browse_name.name.to_string())
        .collect();
    for role in ["Observer", "Operator", "Engineer", "Supervisor", "Auditor"] {
        assert!(names.iter().any(|name| name == role), "{names:?}");
    }
}
