//! The companion specifications' types, from a table of the published NodeSets' facts.

use opcua::nodes::{DataTypeBuilder, ObjectTypeBuilder, ReferenceTypeBuilder};
use opcua::server::address_space::{AddressSpace, ObjectBuilder, VariableBuilder};
use opcua::types::{
    DataTypeId, LocalizedText, NodeId, ObjectId, QualifiedName, ReferenceTypeId, VariableTypeId,
    Variant,
};
use std::collections::BTreeMap;

/// See the head of the file for its form.
const TABLE: &str = include_str!("types.txt");

/// The namespaces' URIs, in the order in which they are added.
pub(in crate::protocols::opcua::server) const NAMESPACES: [&str; 3] = [
    "http://opcfoundation.org/UA/DI/",
    "http://opcfoundation.org/UA/Machinery/",
    "http://opcfoundation.org/UA/Robotics/",
];

/// Indices of the namespaces on this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocols::opcua::server) struct Spaces {
    pub(super) di: u16,
    pub(super) machinery: u16,
    pub(super) robotics: u16,
}

/// An id or a name as the table has it: `R:16601`, `DI:ParameterSet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Short(pub(super) &'static str);

impl Spaces {
    pub(in crate::protocols::opcua::server) fn new([di, machinery, robotics]: [u16; 3]) -> Self {
        Self {
            di,
            machinery,
            robotics,
        }
    }

    fn index(self, prefix: &str) -> Option<u16> {
        match prefix {
            "UA" => Some(0),
            "DI" => Some(self.di),
            "M" => Some(self.machinery),
            "R" => Some(self.robotics),
            _ => None,
        }
    }

    /// The node of an id in the table; null for what is none.
    pub(super) fn id(self, short: Short) -> NodeId {
        let parts = short.0.split_once(':');
        let id = parts.and_then(|(prefix, number)| {
            Some(NodeId::new(
                self.index(prefix)?,
                number.parse::<u32>().ok()?,
            ))
        });
        id.unwrap_or_else(NodeId::null)
    }

    pub(super) fn name(self, short: Short) -> QualifiedName {
        let (prefix, name) = short.0.split_once(':').unwrap_or(("UA", short.0));
        QualifiedName::new(self.index(prefix).unwrap_or(0), name)
    }
}

/// What a member of a type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object { type_id: Short },
    Variable { type_id: Short, data: Short },
    Property { data: Short },
}

/// A member of a type, or of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: Short,
    pub(super) name: Short,
    pub(super) kind: Kind,
    pub(super) mandatory: bool,
    /// Whether instances have it at all: states belong to their type.
    pub(super) of_instances: bool,
}

/// The table, read.
pub(super) struct Types {
    rows: Vec<Row>,
    supertypes: BTreeMap<Short, Short>,
    members: BTreeMap<Short, Vec<Member>>,
}

enum Row {
    Type {
        id: Short,
        name: Short,
        supertype: Short,
        is_abstract: bool,
    },
    Reference {
        id: Short,
        name: Short,
        inverse: &'static str,
        supertype: Short,
    },
    Enumeration {
        id: Short,
        name: Short,
        strings: Short,
        values: &'static str,
    },
    Member {
        member: Member,
        parent: Short,
        rule: &'static str,
    },
}

fn row(line: &'static str) -> Option<Row> {
    let words: Vec<&'static str> = line.split_whitespace().collect();
    let member = |id, name, kind, rule| Member {
        id: Short(id),
        name: Short(name),
        kind,
        mandatory: rule == "mandatory",
        of_instances: rule != "-",
    };
    Some(match *words.as_slice() {
        [kind @ ("type" | "abstract"), id, name, supertype] => Row::Type {
            id: Short(id),
            name: Short(name),
            supertype: Short(supertype),
            is_abstract: kind == "abstract",
        },
        ["reference", id, name, inverse, supertype] => Row::Reference {
            id: Short(id),
            name: Short(name),
            inverse,
            supertype: Short(supertype),
        },
        ["enum", id, name, strings, values] => Row::Enumeration {
            id: Short(id),
            name: Short(name),
            strings: Short(strings),
            values,
        },
        ["object", id, name, parent, type_id, rule] => Row::Member {
            member: member(
                id,
                name,
                Kind::Object {
                    type_id: Short(type_id),
                },
                rule,
            ),
            parent: Short(parent),
            rule,
        },
        ["variable", id, name, parent, type_id, data, rule] => {
            let kind = Kind::Variable {
                type_id: Short(type_id),
                data: Short(data),
            };
            Row::Member {
                member: member(id, name, kind, rule),
                parent: Short(parent),
                rule,
            }
        }
        ["property", id, name, parent, data, rule] => Row::Member {
            member: member(id, name, Kind::Property { data: Short(data) }, rule),
            parent: Short(parent),
            rule,
        },
        _ => return None,
    })
}

impl Types {
    /// Reads the table.
    pub(super) fn read() -> Self {
        let lines = TABLE.lines().filter(|l| !l.starts_with('#'));
        let rows: Vec<Row> = lines.filter_map(row).collect();
        let mut supertypes = BTreeMap::new();
        let mut members: BTreeMap<Short, Vec<Member>> = BTreeMap::new();
        for row in &rows {
            match row {
                Row::Type { id, supertype, .. } => {
                    supertypes.insert(*id, *supertype);
                }
                Row::Member { member, parent, .. } => {
                    members.entry(*parent).or_default().push(*member);
                }
                Row::Reference { .. } | Row::Enumeration { .. } => {}
            }
        }
        Self {
            rows,
            supertypes,
            members,
        }
    }

    /// The members of a type with those that it inherits; what a subtype says anew takes its place.
    pub(super) fn members(&self, of: Short) -> Vec<Member> {
        let mut all: Vec<Member> = Vec::new();
        let mut at = Some(of);
        while let Some(id) = at {
            for member in self.members.get(&id).into_iter().flatten() {
                if !all.iter().any(|m| m.name == member.name) {
                    all.push(*member);
                }
            }
            at = self.supertypes.get(&id).copied();
        }
        all
    }

    /// Adds all types to the address space.
    pub(super) fn add(&self, space: &mut AddressSpace, spaces: Spaces) {
        for row in &self.rows {
            match row {
                Row::Type {
                    id,
                    name,
                    supertype,
                    is_abstract,
                } => {
                    let name = spaces.name(*name);
                    let text = LocalizedText::from(name.name.as_ref());
                    ObjectTypeBuilder::new(&spaces.id(*id), name, text)
                        .is_abstract(*is_abstract)
                        .subtype_of(spaces.id(*supertype))
                        .insert(space);
                }
                Row::Reference {
                    id,
                    name,
                    inverse,
                    supertype,
                } => {
                    let name = spaces.name(*name);
                    let text = LocalizedText::from(name.name.as_ref());
                    ReferenceTypeBuilder::new(&spaces.id(*id), name, text)
                        .inverse_name(LocalizedText::from(*inverse))
                        .subtype_of(spaces.id(*supertype))
                        .insert(space);
                }
                Row::Enumeration {
                    id,
                    name,
                    strings,
                    values,
                } => {
                    let name = spaces.name(*name);
                    let text = LocalizedText::from(name.name.as_ref());
                    DataTypeBuilder::new(&spaces.id(*id), name, text)
                        .subtype_of(NodeId::from(DataTypeId::Enumeration))
                        .insert(space);
                    let values: Vec<_> = values.split(',').map(LocalizedText::from).collect();
                    VariableBuilder::new(&spaces.id(*strings), "EnumStrings", "EnumStrings")
                        .data_type(DataTypeId::LocalizedText)
                        .value_rank(1)
                        .value(Variant::from(values))
                        .has_type_definition(VariableTypeId::PropertyType)
                        .property_of(spaces.id(*id))
                        .insert(space);
                }
                Row::Member {
                    member,
                    parent,
                    rule,
                } => {
                    add_declaration(space, spaces, member, *parent, rule);
                }
            }
        }
    }
}

fn add_declaration(
    space: &mut AddressSpace,
    spaces: Spaces,
    member: &Member,
    parent: Short,
    rule: &str,
) {
    let (id, parent) = (spaces.id(member.id), spaces.id(parent));
    let name = spaces.name(member.name);
    let text = LocalizedText::from(name.name.as_ref());
    match member.kind {
        Kind::Object { type_id } => {
            ObjectBuilder::new(&id, name, text)
                .has_type_definition(spaces.id(type_id))
                .component_of(parent)
                .insert(space);
        }
        Kind::Variable { type_id, data } => {
            VariableBuilder::new(&id, name, text)
                .data_type(spaces.id(data))
                .has_type_definition(spaces.id(type_id))
                .component_of(parent)
                .insert(space);
        }
        Kind::Property { data } => {
            let mut property = VariableBuilder::new(&id, name.clone(), text)
                .data_type(spaces.id(data))
                .has_type_definition(VariableTypeId::PropertyType)
                .property_of(parent);
            if name.name.as_ref() == "StateNumber" {
                property = property.value(state_number(member.id));
            }
            property.insert(space);
        }
    }
    let rule = match rule {
        "mandatory" => ObjectId::ModellingRule_Mandatory,
        "optional" => ObjectId::ModellingRule_Optional,
        _ => return,
    };
    space.insert_reference(&id, &NodeId::from(rule), ReferenceTypeId::HasModellingRule);
}

/// StateNumber of a state of MachineryItemState_StateMachineType (OPC 40001-1, 12.2).
fn state_number(property: Short) -> u32 {
    match property.0 {
        "M:6039" => 0,
        "M:6038" => 1,
        "M:6041" => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood_and_refers_to_what_is_there() {
        let lines = TABLE.lines().filter(|l| !l.starts_with('#'));
        for line in lines.clone() {
            assert!(row(line).is_some(), "{line}");
        }
        let types = Types::read();
        assert_eq!(types.rows.len(), lines.count());
        let known: Vec<Short> = types
            .rows
            .iter()
            .map(|row| match row {
                Row::Type { id, .. } | Row::Reference { id, .. } | Row::Enumeration { id, .. } => {
                    *id
                }
                Row::Member { member, .. } => member.id,
            })
            .collect();
        let there = |id: Short| id.0.starts_with("UA:") || known.contains(&id);
        for row in &types.rows {
            match row {
                Row::Type { supertype, .. } | Row::Reference { supertype, .. } => {
                    assert!(there(*supertype), "{supertype:?}");
                }
                Row::Enumeration { .. } => {}
                Row::Member { member, parent, .. } => {
                    assert!(there(*parent), "{parent:?}");
                    match member.kind {
                        Kind::Object { type_id } => assert!(there(type_id), "{type_id:?}"),
                        Kind::Variable { type_id, data } => {
                            assert!(there(type_id) && there(data), "{member:?}");
                        }
                        Kind::Property { data } => assert!(there(data), "{member:?}"),
                    }
                }
            }
        }
        let mut unique = known.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), known.len(), "an id is there twice");
    }

    #[test]
    fn a_type_has_what_its_supertypes_have_unless_it_says_it_anew() {
        let types = Types::read();
        let members = types.members(Short("R:1004"));
        let find = |name| members.iter().find(|m| m.name == Short(name)).unwrap();
        assert_eq!(find("DI:Manufacturer").id, Short("R:16351"));
        assert!(find("DI:Manufacturer").mandatory);
        assert_eq!(find("DI:HardwareRevision").id, Short("DI:15089"));
        assert_eq!(find("DI:ParameterSet").id, Short("R:5029"));
    }
}
