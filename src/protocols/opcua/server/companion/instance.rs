//! Making instances of types: every member that is mandatory, and every optional one for which there is
//! a value.

use super::point::{Point, Shape};
use super::types::{Kind, Member, Short, Spaces, Types};
use crate::protocols::opcua::server::units::engineering_units;
use opcua::server::address_space::{AddressSpace, ObjectBuilder, VariableBuilder};
use opcua::types::{
    DataTypeId, LocalizedText, NodeId, QualifiedName, ReferenceTypeId, VariableTypeId, Variant,
};

/// What a variable shows.
pub(super) enum Supply {
    /// Always this.
    Fixed(Variant),
    /// What a tag says, which is in this unit.
    Tag(usize, String),
}

/// Puts instances into an address space, and remembers what it put there.
pub(super) struct Builder<'a> {
    pub(super) space: &'a mut AddressSpace,
    pub(super) spaces: Spaces,
    pub(super) types: &'a Types,
    /// The hub's own namespace: ids of instances are in it.
    pub(super) own: u16,
    /// Every node there is now.
    pub(super) nodes: Vec<NodeId>,
    /// The variables that change, and what they show.
    pub(super) points: Vec<(NodeId, Point)>,
}

/// A name from the table, or one of the hub's own.
#[derive(Clone, Copy)]
pub(super) enum Name<'a> {
    Known(Short),
    Own(&'a str),
}

impl Builder<'_> {
    pub(super) fn id(&self, path: &str) -> NodeId {
        NodeId::new(self.own, path)
    }

    fn name(&self, name: Name<'_>) -> (QualifiedName, LocalizedText) {
        let name = match name {
            Name::Known(short) => self.spaces.name(short),
            Name::Own(name) => QualifiedName::new(self.own, name),
        };
        let text = LocalizedText::from(name.name.as_ref());
        (name, text)
    }

    /// An object of type `type_id` at `path`, referred to by its parent, with what its type says it has.
    pub(super) fn object(
        &mut self,
        path: &str,
        name: Name<'_>,
        type_id: Short,
        (parent, reference): (&NodeId, ReferenceTypeId),
        supply: &dyn Fn(&str) -> Option<Supply>,
    ) -> NodeId {
        let id = self.id(path);
        let (name, text) = self.name(name);
        ObjectBuilder::new(&id, name, text)
            .has_type_definition(self.spaces.id(type_id))
            .insert(self.space);
        self.space.insert_reference(parent, &id, reference);
        self.nodes.push(id.clone());
        let members = self.types.members(type_id);
        self.members(path, "", &id, &members, supply);
        id
    }

    fn members(
        &mut self,
        path: &str,
        below: &str,
        parent: &NodeId,
        members: &[Member],
        supply: &dyn Fn(&str) -> Option<Supply>,
    ) {
        for member in members.iter().filter(|m| m.of_instances) {
            let name = member.name.0.split_once(':').map_or("", |(_, name)| name);
            let below = match below {
                "" => name.to_owned(),
                below => format!("{below}/{name}"),
            };
            match member.kind {
                Kind::Object { type_id } => {
                    let mut inner = self.types.members(member.id);
                    inner.extend(self.types.members(type_id).into_iter().filter(|m| {
                        // What the member says anew takes the place of what its type says.
                        !self
                            .types
                            .members(member.id)
                            .iter()
                            .any(|i| i.name == m.name)
                    }));
                    let wanted = |m: &Member| {
                        let name = m.name.0.split_once(':').map_or("", |(_, name)| name);
                        supply(&format!("{below}/{name}")).is_some()
                    };
                    if !member.mandatory && !inner.iter().any(wanted) {
                        continue;
                    }
                    let id = self.id(&format!("{path}/{below}"));
                    let (name, text) = self.name(Name::Known(member.name));
                    ObjectBuilder::new(&id, name, text)
                        .has_type_definition(self.spaces.id(type_id))
                        .component_of(parent.clone())
                        .insert(self.space);
                    self.nodes.push(id.clone());
                    self.members(path, &below, &id, &inner, supply);
                }
                Kind::Variable { type_id, data } => {
                    let supplied = supply(&below);
                    if supplied.is_some() || member.mandatory {
                        let place = (path, &*below, parent);
                        self.variable(place, member, Some(type_id), data, supplied);
                    }
                }
                Kind::Property { data } => {
                    let supplied = supply(&below);
                    if supplied.is_some() || member.mandatory {
                        self.variable((path, &below, parent), member, None, data, supplied);
                    }
                }
            }
        }
    }

    fn variable(
        &mut self,
        (path, below, parent): (&str, &str, &NodeId),
        member: &Member,
        type_id: Option<Short>,
        data: Short,
        supplied: Option<Supply>,
    ) {
        let id = self.id(&format!("{path}/{below}"));
        let (name, text) = self.name(Name::Known(member.name));
        let mut variable = VariableBuilder::new(&id, name, text).data_type(self.spaces.id(data));
        variable = match type_id {
            Some(type_id) => variable
                .has_type_definition(self.spaces.id(type_id))
                .component_of(parent.clone()),
            None => variable
                .has_type_definition(VariableTypeId::PropertyType)
                .property_of(parent.clone()),
        };
        let mut unit = None;
        match supplied {
            Some(Supply::Fixed(value)) => variable = variable.value(value),
            Some(Supply::Tag(tag, of_tag)) => {
                self.points
                    .push((id.clone(), Point::Tag(tag, Shape::of(data))));
                unit = Some(of_tag).filter(|u| !u.is_empty() && type_id == Some(Short("UA:17497")));
            }
            None => self.points.push((id.clone(), Point::Missing)),
        }
        variable.insert(self.space);
        self.nodes.push(id.clone());
        if let Some(unit) = unit {
            let units = self.id(&format!("{path}/{below}#EngineeringUnits"));
            VariableBuilder::new(&units, "EngineeringUnits", "EngineeringUnits")
                .data_type(DataTypeId::EUInformation)
                .value(engineering_units(&unit))
                .has_type_definition(VariableTypeId::PropertyType)
                .property_of(id)
                .insert(self.space);
            self.nodes.push(units);
        }
    }
}
