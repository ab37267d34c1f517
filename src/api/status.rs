//! `/healthz`, `/api/v1/status`, `/api/v1/refusals`.

use super::about::CertificateView;
use super::caller::Viewer;
use super::cluster::ClusterStatus;
use super::context::ApiContext;
use super::feed::Feed;
use super::feeds::EdgeNodeView;
use super::loaded::ConfigState;
use super::ports::RetentionStatus;
use super::problem::Problem;
use super::process;
use super::query::Params;
use super::server::Api;
use super::views::RefusalView;
use crate::live_view::Link;
use crate::model::{Nanos, now, rfc3339};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use weighbridge_verifier::Hash;

/// Most warnings of one answer; `/api/v1/devices` has all of them, each at its device.
const WARNINGS: usize = 100;
/// Most devices that one warning names.
const NAMED: usize = 3;

/// How the hub is.
pub(super) const PATH: &str = "/api/v1/status";
/// Whether it is well, for those who watch over it.
pub(super) const HEALTH: &str = "/healthz";

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route(HEALTH, web::to(health))
        .route(PATH, web::to(status))
        .route("/api/v1/refusals", web::to(refusals));
}

/// Batches by verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Batches {
    pub(super) total: u64,
    pub(super) accepted: u64,
    pub(super) out_of_control: u64,
    pub(super) invalid: u64,
}

/// Devices by the state of their connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Links {
    pub(super) total: usize,
    pub(super) up: usize,
    pub(super) starting: usize,
    pub(super) down: usize,
}

impl Links {
    /// Counts one more.
    pub(super) fn count(&mut self, link: &Link) {
        self.total += 1;
        match link {
            Link::Starting => self.starting += 1,
            Link::Up => self.up += 1,
            Link::Down(_) => self.down += 1,
        }
    }
}

/// The hub at a glance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct StatusView {
    pub(super) hub: String,
    pub(super) version: &'static str,
    pub(super) time: String,
    pub(super) started: String,
    pub(super) uptime_seconds: f64,
    /// Height of the newest block; 0 while there is none.
    pub(super) height: u64,
    pub(super) last_block_hash: Option<Hash>,
    pub(super) last_block_time: Option<String>,
    /// Records in the whole chain.
    pub(super) records: u64,
    /// What keeps the ledger from taking new blocks; `null` when all is well.
    pub(super) ledger_trouble: Option<String>,
    /// How what is old is retired; `null` where everything is kept.
    pub(super) retention: Option<RetentionStatus>,
    /// How the hubs are that share the chain; `null` where this one decides alone.
    pub(super) cluster: Option<ClusterStatus>,
    /// Blocks made since the start.
    pub(super) blocks_since_start: u64,
    /// Points in durable batches since the start.
    pub(super) points: u64,
    /// Points read from the devices a second, over the last seconds.
    pub(super) points_per_second: f64,
    /// Samples that had to be dropped since the start.
    pub(super) dropped: u64,
    pub(super) batches: Batches,
    /// Bytes of ciphertext stored since the start.
    pub(super) sealed_bytes: u64,
    /// Keys of escrow that everything is wrapped to besides; nobody can say that it was hidden.
    pub(super) escrow: Vec<String>,
    pub(super) devices: Links,
    /// The edge nodes that read devices for this hub.
    pub(super) edges: Vec<EdgeNodeView>,
    /// How the configuration is: what was taken over, what was refused, what waits for a restart.
    pub(super) config: ConfigState,
    pub(super) opcua_url: Option<String>,
    /// The certificates that the hub's OPC UA server stands on: its own, and those it trusts.
    pub(super) certificates: Vec<CertificateView>,
    /// What ends soon and must be seen to, in words, of the hub and of its devices.
    pub(super) warnings: Vec<String>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
}

impl StatusView {
    /// What it is now.
    pub(super) fn now(context: &ApiContext, feed: &Feed) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stats = &context.stats;
        let tip = context.ledger.tip();
        let mut links = Links::default();
        let mut dropped = 0;
        for device in context.live.devices() {
            dropped += read(&device.dropped);
            links.count(&device.link());
        }
        let time = now();
        let standing = context.certificates.as_ref().map(|c| c.get());
        let standing = standing.unwrap_or_default();
        let mut warnings: Vec<_> = standing.iter().filter_map(|c| c.warning(time)).collect();
        warnings.extend(of_devices(context, time));
        let (accepted, out_of_control, invalid) = (
            read(&stats.accepted),
            read(&stats.out_of_control),
            read(&stats.invalid),
        );
        Self {
            hub: context.hub_id.clone(),
            version: env!("CARGO_PKG_VERSION"),
            time: rfc3339(time),
            started: rfc3339(context.started),
            uptime_seconds: time.saturating_sub(context.started) as f64 / 1e9,
            height: tip.map_or(0, |tip| tip.height),
            last_block_hash: tip.map(|tip| tip.hash),
            last_block_time: tip.map(|tip| rfc3339(tip.time)),
            records: tip.map_or(0, |tip| tip.records),
            ledger_trouble: context.ledger.trouble(),
            retention: context.ledger.retention(),
            cluster: context.cluster.as_ref().map(|cluster| cluster.status()),
            blocks_since_start: read(&stats.blocks),
            points: read(&stats.points),
            points_per_second: feed.points_per_second(),
            dropped,
            batches: Batches {
                total: accepted + out_of_control + invalid,
                accepted,
                out_of_control,
                invalid,
            },
            sealed_bytes: read(&stats.sealed_bytes),
            escrow: escrow(context),
            devices: links,
            edges: context.edge_nodes(),
            config: context.config.get(),
            opcua_url: context.opcua_url.clone(),
            certificates: standing
                .iter()
                .map(|c| CertificateView::new(c, time))
                .collect(),
            warnings,
            memory_bytes: process::resident_bytes(),
            cpu_seconds: process::cpu_seconds(),
        }
    }
}

fn escrow(context: &ApiContext) -> Vec<String> {
    let state = context.access.gate().state();
    state.escrow().map(|(name, _)| name.clone()).collect()
}

/// Warnings of the devices' certificates. Ours is the same for many devices and said once.
fn of_devices(context: &ApiContext, time: Nanos) -> Vec<String> {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for device in context.live.devices() {
        for certificate in device.about().certificates {
            if let Some(warning) = certificate.warning(time) {
                said.entry(warning).or_default().push(device.id.to_string());
            }
        }
    }
    let one = |(warning, devices): (String, Vec<String>)| {
        let more = devices.len().saturating_sub(NAMED);
        let named = devices.iter().take(NAMED).map(String::as_str);
        let named = named.collect::<Vec<_>>().join(", ");
        match more {
            0 => format!("{named}: {warning}"),
            more => format!("{named} and {more} more: {warning}"),
        }
    };
    said.into_iter().take(WARNINGS).map(one).collect()
}

/// For whoever watches the hub: 200 when it does its work, 503 with the reason when it runs, but
/// its ledger takes no blocks.
async fn health(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    match api.context.ledger.trouble() {
        None => {
            let body = json!({ "status": "ok", "hub": api.context.hub_id });
            Ok(HttpResponse::Ok().json(body))
        }
        Some(trouble) => {
            let detail = format!("the ledger takes no blocks: {trouble}");
            Err(Problem::busy(detail))
        }
    }
}

async fn status(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    Params::parse(request.query_string(), &[])?;
    let view = StatusView::now(&api.context, &api.feed);
    Ok(HttpResponse::Ok().json(view))
}

/// The newest refusals, newest first; older ones are in the ledger, among the records.
async fn refusals(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let params = Params::parse(request.query_string(), &["limit"])?;
    let viewer = Viewer::of(&request, &api)?;
    let kept = api.context.stats.refusals();
    let newest: Vec<_> = kept
        .iter()
        .filter(|refusal| viewer.sees_device(&refusal.device))
        .take(params.limit()?)
        .map(RefusalView::from)
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "refusals": newest })))
}
