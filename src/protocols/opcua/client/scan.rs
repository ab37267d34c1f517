//! Looks through a server's address space for variables that can be read.

use super::config::{OpcUaConfig, check_url};
use super::convert::natural;
use super::endpoint::{choose, endpoints};
use super::inbox::Inbox;
use super::line::{self, Limits, Pace};
use super::node::NodeAddress;
use super::refusal::explain;
use super::session::{Connection, Credentials};
use super::source::ensure_certificate;
use crate::model::{Value, ValueKind};
use crate::protocols::opcua::security::Policy;
use crate::protocols::source::SourceError;
use opcua::client::Session;
use opcua::types::{
    AttributeId, BrowseDescription, BrowseDirection, BrowseResultMask, ByteString, DataValue,
    EUInformation, Error, NodeClass, NodeClassMask, NodeId, ObjectId, Range, ReferenceDescription,
    ReferenceTypeId, Variant,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// References in one answer about a node.
const REFERENCES: u32 = 1_000;
/// `CurrentRead` and `CurrentWrite` among the bits of an access level (OPC 10000-3, 8.57).
const CURRENT_READ: u8 = 0x01;
const CURRENT_WRITE: u8 = 0x02;
const HISTORY_READ: u8 = 0x04;

/// How far a scan goes.
#[derive(Clone, Copy, Debug)]
pub struct ScanBounds {
    /// Nodes that are looked into.
    pub nodes: usize,
    /// Variables that are listed.
    pub variables: usize,
    /// Levels below the objects folder.
    pub depth: usize,
}

impl Default for ScanBounds {
    fn default() -> Self {
        Self {
            nodes: 200_000,
            variables: 20_000,
            depth: 32,
        }
    }
}

/// A variable that can be read.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundVariable {
    /// The names from the objects folder down to it.
    pub path: Vec<String>,
    /// Its address, by the URI of its namespace.
    pub node: NodeAddress,
    /// The kind its values fit.
    pub kind: ValueKind,
    /// What it is now, where it is anything.
    pub value: Option<Value>,
    /// Engineering unit (`EngineeringUnits`, OPC 10000-8, 5.6.3); empty when it has none.
    pub unit: String,
    /// Normal range (`EURange`, OPC 10000-8, 5.6.2).
    pub range: Option<(f64, f64)>,
    /// What the server says that it is; empty when it says nothing.
    pub description: String,
    /// Whether our user may write it.
    pub writable: bool,
    /// Whether the server keeps its history.
    pub history: bool,
}

/// What a scan found.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// The variables, in the server's order.
    pub variables: Vec<FoundVariable>,
    /// Nodes that were looked into.
    pub nodes: usize,
    /// Variables left out because no tag can hold them: arrays, structures, not readable.
    pub left_out: usize,
    /// Whether everything was seen.
    pub complete: bool,
}

/// Looks through the server of `config`; `progress` hears of nodes and variables so far.
pub async fn scan(
    config: &OpcUaConfig,
    bounds: ScanBounds,
    mut progress: impl FnMut(usize, usize),
) -> Result<Scan, SourceError> {
    let unreachable = |reason: String| SourceError::Unreachable {
        address: config.url.clone(),
        reason,
    };
    check_url(&config.url).map_err(unreachable)?;
    if config.security_policy != Policy::None {
        ensure_certificate(&config.pki_dir).map_err(|e| unreachable(e.to_string()))?;
    }
    let with = Credentials::read(config)?;
    let limit = Duration::from_millis(config.connect_timeout_ms.into());
    let inbox = Arc::new(Inbox::new(1, Arc::default(), Arc::default()));
    let open = async {
        let offered = endpoints(&with.client, with.store.clone(), config).await;
        let offered = offered.map_err(|e| explain(config, None, &e))?;
        let endpoint = choose(config, &with.identity, offered)?;
        Connection::open(config, with, endpoint, inbox.clone()).await
    };
    let connection = tokio::time::timeout(limit * 2, open).await;
    let late = |_| SourceError::Timeout {
        address: config.url.clone(),
        milliseconds: u64::from(config.connect_timeout_ms) * 2,
    };
    let connection = connection.map_err(late)??;
    let found = look(&connection.session, bounds, &mut progress).await;
    connection.close().await;
    found.map_err(|e| explain(config, None, &e))
}

/// A node still to be looked into.
struct Branch {
    node: NodeId,
    path: Vec<String>,
}

/// A variable and its properties, before its attributes were read.
struct Candidate {
    node: NodeId,
    path: Vec<String>,
}

#[derive(Default)]
struct Properties {
    unit: Option<NodeId>,
    range: Option<NodeId>,
}

async fn look(
    session: &Session,
    bounds: ScanBounds,
    progress: &mut impl FnMut(usize, usize),
) -> Result<Scan, Error> {
    let line::Learned { names, limits, .. } = line::learn(session).await?;
    let root: NodeId = ObjectId::ObjectsFolder.into();
    // The server's own state is of no interest to a process.
    let mut seen = HashSet::from([root.clone(), ObjectId::Server.into()]);
    let mut waiting = VecDeque::from([Branch {
        node: root,
        path: Vec::new(),
    }]);
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut properties: HashMap<NodeId, Properties> = HashMap::new();
    let (mut nodes, mut complete) = (0, true);
    let has_property: NodeId = ReferenceTypeId::HasProperty.into();
    while !waiting.is_empty() {
        let count = waiting.len().min(limits.browse.max(1));
        let branches: Vec<_> = waiting.drain(..count).collect();
        nodes += branches.len();
        let found = browse(session, &branches).await?;
        for (branch, references) in branches.iter().zip(found) {
            for reference in references {
                if reference.node_id.server_index != 0 {
                    continue;
                }
                let node = reference.node_id.node_id.clone();
                if reference.reference_type_id == has_property {
                    note_property(&mut properties, branch, &reference);
                    continue;
                }
                if !seen.insert(node.clone()) {
                    continue;
                }
                let mut path = branch.path.clone();
                path.push(name_of(&reference));
                if reference.node_class == NodeClass::Variable {
                    if candidates.len() >= bounds.variables {
                        complete = false;
                        continue;
                    }
                    candidates.push(Candidate {
                        node: node.clone(),
                        path: path.clone(),
                    });
                }
                if path.len() >= bounds.depth || nodes + waiting.len() >= bounds.nodes {
                    complete = false;
                    continue;
                }
                waiting.push_back(Branch { node, path });
            }
        }
        progress(nodes, candidates.len());
    }
    let all = candidates.len();
    let variables = describe(session, limits, &names, candidates, &properties).await?;
    Ok(Scan {
        left_out: all - variables.len(),
        variables,
        nodes,
        complete,
    })
}

fn note_property(
    properties: &mut HashMap<NodeId, Properties>,
    of: &Branch,
    reference: &ReferenceDescription,
) {
    let name = &reference.browse_name;
    let node = reference.node_id.node_id.clone();
    match (name.namespace_index, name.name.as_ref()) {
        (0, "EURange") => properties.entry(of.node.clone()).or_default().range = Some(node),
        (0, "EngineeringUnits") => properties.entry(of.node.clone()).or_default().unit = Some(node),
        _ => {}
    }
}

fn name_of(reference: &ReferenceDescription) -> String {
    let browse = reference.browse_name.name.as_ref();
    if browse.is_empty() {
        reference.display_name.text.as_ref().to_owned()
    } else {
        browse.to_owned()
    }
}

/// The references of some nodes, all pages of them.
async fn browse(
    session: &Session,
    branches: &[Branch],
) -> Result<Vec<Vec<ReferenceDescription>>, Error> {
    let asked: Vec<_> = branches
        .iter()
        .map(|branch| BrowseDescription {
            node_id: branch.node.clone(),
            browse_direction: BrowseDirection::Forward,
            reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
            include_subtypes: true,
            node_class_mask: (NodeClassMask::OBJECT | NodeClassMask::VARIABLE).bits(),
            result_mask: BrowseResultMask::All as u32,
        })
        .collect();
    let mut found: Vec<Vec<ReferenceDescription>> = vec![Vec::new(); asked.len()];
    let mut more: Vec<(usize, ByteString)> = Vec::new();
    let mut pace = Pace(asked.len());
    let mut done = 0;
    while let Some(chunk) = pace.next(&asked, done) {
        match session.browse(chunk, REFERENCES, None).await {
            Ok(results) => {
                for (at, result) in results.into_iter().take(chunk.len()).enumerate() {
                    note(&mut found, &mut more, done + at, result);
                }
                done += chunk.len();
            }
            Err(error) => pace.slower(error, chunk.len())?,
        }
    }
    while let Some((at, point)) = more.pop() {
        let results = session.browse_next(false, &[point]).await?;
        for result in results.into_iter().take(1) {
            note(&mut found, &mut more, at, result);
        }
    }
    Ok(found)
}

fn note(
    found: &mut [Vec<ReferenceDescription>],
    more: &mut Vec<(usize, ByteString)>,
    at: usize,
    result: opcua::types::BrowseResult,
) {
    if let Some(references) = found.get_mut(at) {
        references.extend(result.references.into_iter().flatten());
    }
    if !result.continuation_point.is_null_or_empty() {
        more.push((at, result.continuation_point));
    }
}

/// Reads what the candidates are; those that no tag can hold are left out.
async fn describe(
    session: &Session,
    limits: Limits,
    names: &[String],
    candidates: Vec<Candidate>,
    properties: &HashMap<NodeId, Properties>,
) -> Result<Vec<FoundVariable>, Error> {
    let nodes: Vec<_> = candidates.iter().map(|c| c.node.clone()).collect();
    let read = |attribute| line::read(session, &nodes, attribute, limits.read);
    let values = read(AttributeId::Value).await?;
    let types = read(AttributeId::DataType).await?;
    let ranks = read(AttributeId::ValueRank).await?;
    let levels = read(AttributeId::UserAccessLevel).await?;
    let descriptions = read(AttributeId::Description).await?;
    let property = |pick: fn(&Properties) -> Option<&NodeId>| {
        let of = |node: &NodeId| properties.get(node).and_then(pick).cloned();
        nodes.iter().map(of).collect::<Vec<_>>()
    };
    let units = read_some(session, limits, property(|p| p.unit.as_ref())).await?;
    let ranges = read_some(session, limits, property(|p| p.range.as_ref())).await?;
    let mut found = Vec::new();
    for (at, candidate) in candidates.into_iter().enumerate() {
        let level = match values_of(&levels, at) {
            Some(Variant::Byte(level)) => *level,
            // A server that says nothing of it lets us try.
            _ => CURRENT_READ,
        };
        let is_array = matches!(values_of(&ranks, at), Some(Variant::Int32(rank)) if *rank >= 0);
        let value = values_of(&values, at).cloned();
        let kind = kind(value.as_ref(), values_of(&types, at));
        let (Some(kind), false, true) = (kind, is_array, level & CURRENT_READ != 0) else {
            continue;
        };
        let description = match values_of(&descriptions, at) {
            Some(Variant::LocalizedText(text)) => text.text.as_ref().to_owned(),
            _ => String::new(),
        };
        let unit = units.get(at).cloned().flatten();
        let range = ranges.get(at).cloned().flatten();
        found.push(FoundVariable {
            path: candidate.path,
            node: NodeAddress::of(&candidate.node, names),
            kind,
            value: value.and_then(natural),
            unit: unit.and_then(unit_of).unwrap_or_default(),
            range: range.and_then(range_of),
            description,
            writable: level & CURRENT_WRITE != 0,
            history: level & HISTORY_READ != 0,
        });
    }
    Ok(found)
}

/// The values of the nodes that there are, in their places.
async fn read_some(
    session: &Session,
    limits: Limits,
    nodes: Vec<Option<NodeId>>,
) -> Result<Vec<Option<Variant>>, Error> {
    let there: Vec<_> = nodes.iter().flatten().cloned().collect();
    let values = line::read(session, &there, AttributeId::Value, limits.read).await?;
    let mut values = values.into_iter().map(|v| v.value);
    let place = |node: Option<NodeId>| node.and_then(|_| values.next().flatten());
    Ok(nodes.into_iter().map(place).collect())
}

fn values_of(values: &[DataValue], at: usize) -> Option<&Variant> {
    values.get(at)?.value.as_ref()
}

fn unit_of(value: Variant) -> Option<String> {
    match value {
        Variant::ExtensionObject(object) => {
            let unit = object.into_inner_as::<EUInformation>()?;
            Some(unit.display_name.text.as_ref().to_owned())
        }
        _ => None,
    }
}

fn range_of(value: Variant) -> Option<(f64, f64)> {
    match value {
        Variant::ExtensionObject(object) => {
            let range = object.into_inner_as::<Range>()?;
            let fits = range.low < range.high && range.low.is_finite() && range.high.is_finite();
            fits.then_some((range.low, range.high))
        }
        _ => None,
    }
}

/// The kind that holds a variable's values: by the value it has, else by its declared type
/// (numbers of OPC 10000-6, 5.1.2).
fn kind(value: Option<&Variant>, declared: Option<&Variant>) -> Option<ValueKind> {
    let by_number = |number: u32| {
        Some(match number {
            1 => ValueKind::Bool,
            2 | 4 | 6 | 8 | 27 => ValueKind::I64,
            3 | 5 | 7 | 9 | 28 => ValueKind::U64,
            10 | 11 | 26 | 290 => ValueKind::F64,
            12 | 21 => ValueKind::Text,
            15 => ValueKind::Bytes,
            _ => return None,
        })
    };
    match value {
        Some(Variant::Array(_) | Variant::ExtensionObject(_)) => None,
        None | Some(Variant::Empty) => match declared {
            Some(Variant::NodeId(id)) if id.namespace == 0 => by_number(id.as_u32()?),
            _ => None,
        },
        Some(value) => by_number(value.scalar_type_id()? as u32),
    }
}
