//! Alarms as OPC UA's conditions (OPC 10000-9): events with what the stack lacks of them, condition
//! instances in the address space, and the methods that clients call on them.
//!
//! The stack has events with filters and methods, and nothing of conditions. What is missing there is
//! here: [`filter`] and [`event`] answer filters, [`listeners`] delivers to single subscriptions, which a refresh
//! needs, and keeps events for clients that leave the size of their queue to the server; [`instances`]
//! are the nodes; [`methods`] are the acts of users.

mod event;
mod fields;
mod filter;
mod instances;
mod listeners;
mod methods;
mod types;
mod where_clause;

pub(super) use listeners::Listeners;

use super::nodes::LiveNodes;
use super::parts::Parts;
use crate::access::Gate;
use crate::alarms::Alarm;
use crate::protocols::ports::AlarmPort;
use event::Happening;
use fields::Names;
use instances::Instances;
use opcua::server::ServerHandle;
use opcua::server::node_manager::memory::InMemoryNodeManager;
use opcua::types::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::task::AbortOnDropHandle;

/// How often events that wait for room are looked after.
const SOON: Duration = Duration::from_millis(20);
/// How often times that run are shown.
const SECOND: Duration = Duration::from_secs(1);

/// Opens the alarms of `port` to clients, until what it returns is dropped.
pub(super) fn open(
    (port, gate): (Arc<dyn AlarmPort>, Gate),
    handle: &ServerHandle,
    nodes: Arc<InMemoryNodeManager<LiveNodes>>,
    parts: &Arc<Parts>,
) -> AbortOnDropHandle<()> {
    let names = Names {
        namespace: nodes.inner().namespace(),
        max_shelved: port.max_shelved(),
    };
    let with_filters = filter::before(&handle.info().type_loaders.read());
    *handle.info().type_loaders.write() = with_filters;
    types::add_nodes(&mut nodes.address_space().write(), &names);
    methods::add((&port, &gate), names, parts);
    parts.listeners.open(names);
    let pump = Pump {
        changes: port.changes(),
        instances: Instances::new(nodes, handle.subscriptions().clone(), names),
        port,
        names,
        parts: parts.clone(),
    };
    AbortOnDropHandle::new(tokio::spawn(pump.run()))
}

/// Shows every change of an alarm: in its nodes, and as an event.
struct Pump {
    changes: Receiver<Alarm>,
    instances: Instances,
    port: Arc<dyn AlarmPort>,
    names: Names,
    parts: Arc<Parts>,
}

impl Pump {
    async fn run(mut self) {
        for alarm in self.port.alarms() {
            self.instances.show(&alarm);
        }
        let mut second = tokio::time::interval(SECOND);
        loop {
            tokio::select! {
                changed = self.changes.recv() => match changed {
                    Ok(alarm) => self.changed(&alarm),
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "alarms changed faster than they could be told");
                        for alarm in self.port.alarms() {
                            self.instances.show(&alarm);
                        }
                        self.parts.listeners.missed();
                    }
                    Err(RecvError::Closed) => return,
                },
                () = self.parts.listeners.held.notified() => {
                    tokio::time::sleep(SOON).await;
                    self.parts.listeners.flush();
                }
                _ = second.tick() => self.instances.tick(),
            }
        }
    }

    fn changed(&mut self, alarm: &Alarm) {
        self.instances.show(alarm);
        let event = Happening::condition(alarm.clone(), self.names);
        self.parts.listeners.tell(Arc::new(event));
    }
}

#[cfg(test)]
mod tests;

/// Node id of a device, of the tag of one, or of the condition of an alarm.
fn node(namespace: u16, path: &str) -> NodeId {
    NodeId::new(namespace, path)
}
