//! An open session and what was learned of its server: namespaces, how much a request may hold, and
//! since when it runs.

use super::config::OpcUaConfig;
use super::inbox::Inbox;
use super::node::NodeAddress;
use super::translate::translate;
use super::wanted::Wanted;
use opcua::client::Session;
use opcua::types::{
    AttributeId, DataValue, DateTime, Error, NodeId, ReadValueId, StatusCode, TimestampsToReturn,
    VariableId, Variant,
};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

/// Operations in a request to a server that says nothing of its limits.
const OPERATIONS: usize = 1_000;
/// Histories read in one request.
const HISTORIES: usize = 100;

/// How many operations a request may hold (OPC 10000-5, 6.3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) read: usize,
    pub(super) write: usize,
    pub(super) items: usize,
    pub(super) history: usize,
    pub(super) browse: usize,
    pub(super) translate: usize,
}

impl Limits {
    const NODES: [VariableId; 6] = [
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerWrite,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds,
    ];

    /// From the values of [`Limits::NODES`]; 0 is no limit.
    fn of(values: &[DataValue]) -> Self {
        let limit = |at: usize, most: usize| {
            let value = values.get(at).and_then(|v| v.value.as_ref());
            match value {
                Some(Variant::UInt32(limit)) if *limit > 0 => most.min(*limit as usize),
                _ => most,
            }
        };
        Self {
            read: limit(0, OPERATIONS),
            write: limit(1, OPERATIONS),
            items: limit(2, OPERATIONS),
            history: limit(3, HISTORIES),
            browse: limit(4, HISTORIES),
            translate: limit(5, OPERATIONS),
        }
    }
}

/// A session in use.
pub(super) struct Line {
    pub(super) session: Arc<Session>,
    pub(super) config: Arc<OpcUaConfig>,
    pub(super) wanted: Arc<Wanted>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) limits: Limits,
    /// When the server started, where it says so: what it numbers, it may number anew in each run.
    pub(super) started: Option<DateTime>,
    names: RwLock<Vec<String>>,
    /// Where browse paths lead, by their texts.
    paths: RwLock<HashMap<String, NodeId>>,
}

impl Line {
    /// Asks an activated session for what must be known.
    pub(super) async fn open(
        session: Arc<Session>,
        config: Arc<OpcUaConfig>,
        wanted: Arc<Wanted>,
        inbox: Arc<Inbox>,
    ) -> Result<Self, Error> {
        let learned = learn(&session).await?;
        let line = Self {
            session,
            config,
            wanted,
            inbox,
            limits: learned.limits,
            started: learned.started,
            names: RwLock::new(learned.names),
            paths: RwLock::default(),
        };
        line.remember_names().await;
        let points = line.wanted.points.iter();
        line.learn_paths(points.map(|point| &point.node)).await?;
        Ok(line)
    }

    /// Takes the indices of the addresses to mean what they mean now, unless more was known, and keeps
    /// that for the next time.
    async fn remember_names(&self) {
        let wanted = self.wanted.clone();
        let names = self.names.read().clone();
        for point in &wanted.points {
            point
                .node
                .resolve(|namespace| wanted.names.index(namespace, &names));
        }
        let device = wanted.device.clone();
        for (index, uri, now) in wanted.names.moved(&names) {
            tracing::warn!(
                %device,
                now,
                "ns={index} is read as {uri:?}, which it meant at first; write nsu= to say so"
            );
        }
        let saved = tokio::task::spawn_blocking(move || wanted.names.save()).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%device, %error, "what the namespace indices mean cannot be kept");
        }
    }

    /// Asks anew which namespaces there are.
    pub(super) async fn learn_names(&self) -> Result<(), Error> {
        let names = read_values(&self.session, &[namespace_array()]).await?;
        *self.names.write() = texts(names.first());
        self.remember_names().await;
        Ok(())
    }

    /// Asks anew where those of `addresses` lead that are browse paths.
    pub(super) async fn learn_paths(
        &self,
        addresses: impl IntoIterator<Item = &NodeAddress>,
    ) -> Result<(), Error> {
        let named = addresses.into_iter();
        let named = named.filter_map(|address| Some((address.to_string(), address.path()?)));
        let (texts, steps): (Vec<_>, Vec<_>) = named.unzip();
        if texts.is_empty() {
            return Ok(());
        }
        let names = self.names.read().clone();
        let index_of = |namespace: &_| self.wanted.names.index(namespace, &names);
        let found = translate(&self.session, self.limits, &steps, index_of).await?;
        let mut paths = self.paths.write();
        for (text, node) in texts.into_iter().zip(found) {
            match node {
                Some(node) => paths.insert(text, node),
                None => paths.remove(&text),
            };
        }
        Ok(())
    }

    /// Where an address is on this server, asked for if it is not known.
    pub(super) async fn find(&self, address: &NodeAddress) -> Result<Option<NodeId>, Error> {
        if self.resolve(address).is_none() {
            self.learn_paths([address]).await?;
        }
        Ok(self.resolve(address))
    }

    /// Where a column's variable is on this server.
    pub(super) fn node(&self, column: usize) -> Option<NodeId> {
        self.resolve(&self.wanted.points.get(column)?.node)
    }

    /// Where an address is on this server.
    pub(super) fn resolve(&self, address: &NodeAddress) -> Option<NodeId> {
        if address.path().is_some() {
            return self.paths.read().get(&address.to_string()).cloned();
        }
        let names = self.names.read();
        address.resolve(|namespace| self.wanted.names.index(namespace, &names))
    }

    /// One attribute of each of these nodes, in requests as long as the server allows.
    pub(super) async fn read(
        &self,
        nodes: &[NodeId],
        attribute: AttributeId,
    ) -> Result<Vec<DataValue>, Error> {
        read(&self.session, nodes, attribute, self.limits.read).await
    }
}

fn namespace_array() -> NodeId {
    VariableId::Server_NamespaceArray.into()
}

/// What a server says of itself.
pub(super) struct Learned {
    pub(super) names: Vec<String>,
    pub(super) limits: Limits,
    pub(super) started: Option<DateTime>,
}

/// Asks a server for its namespaces, its limits, and when it started.
pub(super) async fn learn(session: &Session) -> Result<Learned, Error> {
    let others = [VariableId::Server_ServerStatus_StartTime];
    let others = others.iter().chain(&Limits::NODES);
    let others = others.map(|id| NodeId::from(*id));
    let all: Vec<_> = std::iter::once(namespace_array()).chain(others).collect();
    let values = match read_values(session, &all).await {
        Err(error) if is_too_much(&error) => read_values(session, &all[..1]).await?,
        other => other?,
    };
    Ok(Learned {
        names: texts(values.first()),
        started: values.get(1).and_then(time),
        limits: Limits::of(values.get(2..).unwrap_or_default()),
    })
}

/// One attribute of each of these nodes, at most `most` in a request.
pub(super) async fn read(
    session: &Session,
    nodes: &[NodeId],
    attribute: AttributeId,
    most: usize,
) -> Result<Vec<DataValue>, Error> {
    let asked: Vec<_> = nodes
        .iter()
        .map(|node| ReadValueId {
            node_id: node.clone(),
            attribute_id: attribute as u32,
            ..Default::default()
        })
        .collect();
    let mut values = Vec::with_capacity(nodes.len());
    let mut pace = Pace(most);
    while let Some(chunk) = pace.next(&asked, values.len()) {
        match session.read(chunk, TimestampsToReturn::Both, 0.0).await {
            Ok(answer) if answer.len() == chunk.len() => values.extend(answer),
            Ok(_) => return Err(incomplete()),
            Err(error) => pace.slower(error, chunk.len())?,
        }
    }
    Ok(values)
}

async fn read_values(session: &Session, nodes: &[NodeId]) -> Result<Vec<DataValue>, Error> {
    read(session, nodes, AttributeId::Value, nodes.len()).await
}

fn texts(value: Option<&DataValue>) -> Vec<String> {
    let Some(Variant::Array(array)) = value.and_then(|v| v.value.as_ref()) else {
        return Vec::new();
    };
    let text = |value: &Variant| match value {
        Variant::String(text) => text.as_ref().to_owned(),
        _ => String::new(),
    };
    array.values.iter().map(text).collect()
}

/// A time; a server that does not know it may give none, or one that says nothing.
fn time(value: &DataValue) -> Option<DateTime> {
    match &value.value {
        Some(Variant::DateTime(time)) if !time.is_null() => Some(**time),
        _ => None,
    }
}

/// How much goes into a request: less after the server said that it was too much.
pub(super) struct Pace(pub(super) usize);

impl Pace {
    /// What is asked next when `done` was answered; `None` when everything was.
    pub(super) fn next<'a, T>(&self, all: &'a [T], done: usize) -> Option<&'a [T]> {
        let rest = all.get(done..)?;
        let chunk = rest.get(..self.0.max(1)).unwrap_or(rest);
        (!chunk.is_empty()).then_some(chunk)
    }

    /// Takes a refusal of `asked` operations; an error when asking for fewer would not help.
    pub(super) fn slower(&mut self, error: Error, asked: usize) -> Result<(), Error> {
        if asked > 1 && is_too_much(&error) {
            self.0 = asked / 2;
            Ok(())
        } else {
            Err(error)
        }
    }
}

/// Whether a server said that a request or its answer was too long.
fn is_too_much(error: &Error) -> bool {
    matches!(
        error.status(),
        StatusCode::BadTooManyOperations
            | StatusCode::BadRequestTooLarge
            | StatusCode::BadResponseTooLarge
            | StatusCode::BadEncodingLimitsExceeded
            | StatusCode::BadTcpMessageTooLarge
    )
}

pub(super) fn incomplete() -> Error {
    Error::new(
        StatusCode::BadUnexpectedError,
        "it answered for another number of operations than was asked",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_get_shorter_until_they_are_taken() {
        let all: Vec<u32> = (0..100).collect();
        let (mut done, mut asked, mut pace) = (0, 0, Pace(64));
        while let Some(chunk) = pace.next(&all, done) {
            asked += 1;
            if chunk.len() > 10 {
                let error = Error::new(StatusCode::BadTooManyOperations, "");
                pace.slower(error, chunk.len()).unwrap();
            } else {
                assert_eq!(chunk[0] as usize, done);
                done += chunk.len();
            }
        }
        assert_eq!(done, 100);
        assert!(asked < 20, "{asked} requests");
        let other = Error::new(StatusCode::BadTimeout, "");
        assert!(pace.slower(other, 8).is_err());
        let hopeless = Error::new(StatusCode::BadTooManyOperations, "");
        assert!(pace.slower(hopeless, 1).is_err());
    }

    #[test]
    fn limits_are_the_servers_or_ours() {
        let values = [5u32, 0, 100_000].map(|n| DataValue::from(Variant::UInt32(n)));
        let limits = Limits::of(&values);
        assert_eq!(limits.read, 5);
        assert_eq!((limits.write, limits.items), (OPERATIONS, OPERATIONS));
        assert_eq!(limits.history, HISTORIES);
    }
}
