//! What must hold of hubs that share a chain as far as one file shows it.

use super::{Place, unique};
use crate::config::diagnostic::Diagnostic;
use crate::config::tree;
use crate::config::{ClusterConfig, DeviceConfig, HubConfig};
use std::collections::BTreeSet;
use weighbridge_verifier::{PublicKey, Suite};

/// `[cluster]` and what does not go with it.
pub(super) fn cluster(config: &HubConfig, input: &Place<'_, '_>, found: &mut Vec<Diagnostic>) {
    let Some(cluster) = &config.cluster else {
        return;
    };
    let section = input.spot(&["cluster"]).key;
    let ledger = input.spot(&["ledger"]).value;
    if config.ledger.suite != Suite::Nist && !input.was_wrong(&ledger, "suite") {
        let suite = config.ledger.suite;
        let message = format!("a chain of suite `{suite}` cannot be shared");
        let span = input.spot(&["ledger", "suite"]).value;
        let mut d = input.error(&span, message, "consensus signs with P-256 keys");
        let related = input.sources.related(&section, "this shares it");
        d.related.push(related);
        d.help
            .push("take `[cluster]` away: one hub decides chains of this suite".to_owned());
        found.push(d);
    }
    if config.ledger.retention.retires() {
        let span = input.spot(&["ledger", "retention"]).key;
        let message = "nothing can be retired from a chain that several hubs share yet".to_owned();
        let mut d = input.error(&span, message, "other hubs may still need it");
        let related = input.sources.related(&section, "this shares it");
        d.related.push(related);
        d.help
            .push("take `batches`, `bodies` and `max_mb` of `[ledger.retention]` away".to_owned());
        found.push(d);
    }
    hubs(config, cluster, input, found);
    ports(config, cluster, input, found);
}

fn hubs(
    config: &HubConfig,
    cluster: &ClusterConfig,
    input: &Place<'_, '_>,
    found: &mut Vec<Diagnostic>,
) {
    let at = |i: usize, key: &str| input.element(&["cluster", "hubs"], i, key);
    let indices: Vec<_> = (0..cluster.hubs.len()).collect();
    let ids = cluster.hubs.iter().map(|hub| hub.id.as_str());
    unique(input, "hub's id", ids.zip(&indices), found, |i| {
        at(*i, "id")
    });
    let keys: Vec<_> = cluster.hubs.iter().map(|h| h.key.to_string()).collect();
    let keys = keys.iter().map(String::as_str);
    unique(input, "key", keys.zip(&indices), found, |i| at(*i, "key"));
    let networks = cluster.hubs.iter().map(|hub| hub.network.as_str());
    unique(input, "network id", networks.zip(&indices), found, |i| {
        at(*i, "network")
    });
    for (i, hub) in cluster.hubs.iter().enumerate() {
        if hub.id == config.hub.id {
            let message = format!("`{}` is this hub itself", hub.id);
            let mut d = input.error(&at(i, "id"), message, "only the other hubs are named");
            d.help
                .push("take it away, or give `[hub]` another `id`".to_owned());
            found.push(d);
        }
        for (name, key) in [("key", &hub.key), ("sealing", &hub.sealing)] {
            p256(&hub.id, key, &at(i, name), input, found);
        }
    }
    let Some(genesis) = &cluster.genesis else {
        return;
    };
    let span = input.spot(&["cluster", "genesis", "key"]).value;
    p256(&genesis.hub, &genesis.key, &span, input, found);
    let known = cluster.hubs.iter().map(|hub| &hub.id);
    let known: Vec<_> = known.chain([&config.hub.id]).collect();
    if !known.contains(&&genesis.hub) {
        // It may have left since: no mistake for certain.
        let span = input.spot(&["cluster", "genesis", "hub"]).value;
        let message = format!("`{}`, which began the chain, is not named", genesis.hub);
        let mut d = input.warning(&span, message, "no `[[cluster.hubs]]` has this id");
        let known: Vec<_> = known.iter().map(|id| format!("`{id}`")).collect();
        d.help
            .push(format!("hubs known here: {}", known.join(", ")));
        found.push(d);
    }
}

/// The hubs that may read a device.
pub(super) fn readers(
    config: &HubConfig,
    device: &DeviceConfig,
    input: &Place<'_, '_>,
    found: &mut Vec<Diagnostic>,
) {
    if device.hubs.is_empty() {
        return;
    }
    let spot = input.spot(&["hubs"]);
    let id = &device.id;
    let mut wrong = |span, message: String, label: &str, help: &str| {
        let mut d = input.error(span, message, label);
        d.help.push(help.to_owned());
        found.push(d);
    };
    let Some(cluster) = &config.cluster else {
        let message = format!("device `{id}` names hubs that may read it");
        let help = "take it away: without `[cluster]` this hub alone reads its devices";
        return wrong(&spot.key, message, "only where hubs share a chain", help);
    };
    if device.edge.is_some() {
        let message = format!("device `{id}` has both `edge` and `hubs`");
        let help = "take `hubs` away: name the hubs in the edge node's own file, it goes from one to the next by itself";
        wrong(&spot.key, message, "not where an edge node reads it", help);
    }
    let own = &config.hub.id;
    if !device.hubs.contains(own) {
        let message =
            format!("`{own}` is not among the hubs of device `{id}`: it would never read it");
        let help = "add this hub to the list, or take the device out of this file";
        wrong(&spot.value, message, "this hub is missing", help);
    }
    let mut named = BTreeSet::new();
    for hub in &device.hubs {
        let known = hub == own || cluster.hubs.iter().any(|known| known.id == *hub);
        if !known {
            let message = format!("device `{id}` names the hub `{hub}`, which is not known");
            let help = "each is this hub itself or the `id` of a `[[cluster.hubs]]`";
            wrong(&spot.value, message, "no hub has this id", help);
        }
        if !named.insert(hub) {
            let message = format!("device `{id}` names the hub `{hub}` twice");
            let help = "the order says who is next, so each stands there once";
            wrong(&spot.value, message, "named twice", help);
        }
    }
}

fn p256(
    who: &str,
    key: &PublicKey,
    span: &crate::config::source::Span,
    input: &Place<'_, '_>,
    found: &mut Vec<Diagnostic>,
) {
    if key.suite() == Suite::Nist {
        return;
    }
    let message = format!("the key of `{who}` is no P-256 key");
    let mut d = input.error(span, message, "consensus signs with P-256 keys");
    d.help
        .push("`weighbridge cluster card`, run at that hub, prints it".to_owned());
    found.push(d);
}

/// Two servers of this hub at one port.
fn ports(
    config: &HubConfig,
    cluster: &ClusterConfig,
    input: &Place<'_, '_>,
    found: &mut Vec<Diagnostic>,
) {
    let mut taken = vec![
        ("HTTP", config.http.bind, &["http", "bind"]),
        (
            "OPC UA",
            config.opcua_server.bind,
            &["opcua_server", "bind"],
        ),
    ];
    if let Some(edges) = &config.edges {
        taken.push(("edge nodes", edges.bind, &["edges", "bind"]));
    }
    let own = [
        ("consensus", cluster.listen, &["cluster", "listen"]),
        ("the mesh", cluster.mesh, &["cluster", "mesh"]),
    ];
    for (what, bind, keys) in own {
        let other = taken
            .iter()
            .find(|(_, other, _)| bind.port() != 0 && bind.port() == other.port());
        if let Some((other, _, before)) = other {
            let message = format!(
                "{other} and {what} would both listen on port {}",
                bind.port()
            );
            let mut d = input.error(&input.spot(keys).value, message, "this port is taken");
            if let Some(spot) = tree::find(input.table, *before) {
                d.related
                    .push(input.sources.related(&spot.value, "by this"));
            }
            d.help.push("give each a port of its own".to_owned());
            found.push(d);
        }
        taken.push((what, bind, keys));
    }
}
