//! The HTTP face of an edge node: `/healthz` and `/api/v1/status`, on loopback, by the rules of a hub's.
//!
//! It only reads. What a machine said is at the hub; here is how the way there is.

use super::guard::guard;
use super::loaded::{ConfigState, ConfigStatus};
use super::problem::Problem;
use super::process;
use super::query::Params;
use super::server::{ApiError, Report, Running, begin_local, bounded, until_stopped};
use super::status::Links;
use super::views::LinkView;
use crate::live_view::{Link, LiveView};
use crate::model::{DeviceId, Nanos, now, rfc3339};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde::Serialize;
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// How the way to a hub is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeUplink {
    /// Id and address of the hub that is connected.
    pub hub: Option<(String, String)>,
    /// Since when it is.
    pub since: Option<Nanos>,
    /// Why none is; `None` while nobody was asked.
    pub reason: Option<String>,
    /// When a hub was last heard.
    pub last_success: Option<Nanos>,
    /// When the next attempt is due.
    pub retry_at: Option<Nanos>,
}

/// How the buffer of a device is. Counts are since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EdgeLane {
    /// The device.
    #[serde(serialize_with = "id")]
    pub device: DeviceId,
    /// Batches that no hub has made durable.
    pub buffered_batches: u64,
    /// Bytes on disk.
    pub buffered_bytes: u64,
    /// Bytes there may be.
    pub limit_bytes: u64,
    /// Batches made durable here.
    pub stored_batches: u64,
    /// Batches that a hub made durable.
    pub acknowledged_batches: u64,
    /// Samples dropped because the buffer was full.
    pub dropped_samples: u64,
    /// Batches that the disk has lost.
    pub damaged_batches: u64,
    /// Why the hub does not take them; `null` where it does.
    pub refused: Option<String>,
}

fn id<S: serde::Serializer>(id: &DeviceId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(id)
}

/// What this face reads of an edge node.
pub trait EdgeReader: Send + Sync + 'static {
    /// The way to a hub.
    fn uplink(&self) -> EdgeUplink;

    /// The buffers, by device.
    fn lanes(&self) -> Vec<EdgeLane>;
}

/// Everything the HTTP face of an edge node reads.
#[derive(Clone)]
pub struct EdgeContext {
    /// Id of the edge node.
    pub edge_id: String,
    /// When it started.
    pub started: Nanos,
    /// The newest samples.
    pub live: LiveView,
    /// How the configuration is.
    pub config: ConfigStatus,
    /// What happens when the buffer is full: `stop` or `drop_oldest`.
    pub when_full: &'static str,
    /// The way to a hub, and the buffers.
    pub reader: Arc<dyn EdgeReader>,
}

/// Starts the HTTP face of an edge node on `bind`, as [`start`](super::start) does that of a hub.
///
/// # Errors
/// When the address is not a loopback address, is taken, or the operating system refuses.
pub fn start_edge(bind: SocketAddr, context: EdgeContext) -> Result<Running, ApiError> {
    begin_local(bind, |listener, _, report| serve(listener, context, report))
}

async fn serve(listener: TcpListener, context: EdgeContext, report: Report) {
    let context = web::Data::new(context);
    let app = move || {
        App::new()
            .app_data(context.clone())
            .wrap(actix_web::middleware::from_fn(guard))
            .route("/healthz", web::to(health))
            .route("/api/v1/status", web::to(status))
            .default_service(web::to(nothing_here))
    };
    let server = bounded!(HttpServer::new(app), listener);
    until_stopped(server, report).await;
}

async fn nothing_here() -> Result<&'static str, Problem> {
    Err(Problem::not_found(
        "there is nothing at this address: this is an edge node, and has /api/v1/status and /healthz; \
         values and records are at its hub",
    ))
}

#[derive(Serialize)]
struct UplinkView {
    /// "starting", "up" or "down".
    state: &'static str,
    hub: Option<String>,
    address: Option<String>,
    since: Option<String>,
    reason: Option<String>,
    last_success: Option<String>,
    retry_at: Option<String>,
}

impl From<EdgeUplink> for UplinkView {
    fn from(uplink: EdgeUplink) -> Self {
        let state = match (&uplink.hub, &uplink.reason) {
            (Some(_), _) => "up",
            (None, Some(_)) => "down",
            (None, None) => "starting",
        };
        let (hub, address) = uplink.hub.unzip();
        Self {
            state,
            hub,
            address,
            since: uplink.since.map(rfc3339),
            reason: uplink.reason,
            last_success: uplink.last_success.map(rfc3339),
            retry_at: uplink.retry_at.map(rfc3339),
        }
    }
}

/// A device and its buffer.
#[derive(Serialize)]
struct DeviceLane {
    #[serde(flatten)]
    lane: EdgeLane,
    link: LinkView,
    /// When a value was last read.
    last_read: Option<String>,
}

/// All buffers together.
#[derive(Default, Serialize)]
struct Buffer {
    when_full: &'static str,
    batches: u64,
    bytes: u64,
    limit_bytes: u64,
    dropped_samples: u64,
    damaged_batches: u64,
}

/// The edge node at a glance.
#[derive(Serialize)]
struct StatusView {
    edge: String,
    version: &'static str,
    time: String,
    started: String,
    uptime_seconds: f64,
    uplink: UplinkView,
    devices: Links,
    buffer: Buffer,
    lanes: Vec<DeviceLane>,
    config: ConfigState,
    memory_bytes: Option<u64>,
    cpu_seconds: Option<f64>,
}

async fn health(context: web::Data<EdgeContext>) -> HttpResponse {
    // Without a hub it still does its work.
    let uplink = UplinkView::from(context.reader.uplink()).state;
    let body = json!({ "status": "ok", "edge": context.edge_id, "uplink": uplink });
    HttpResponse::Ok().json(body)
}

async fn status(
    request: HttpRequest,
    context: web::Data<EdgeContext>,
) -> Result<HttpResponse, Problem> {
    Params::parse(request.query_string(), &[])?;
    let mut devices = Links::default();
    let mut buffer = Buffer {
        when_full: context.when_full,
        ..Buffer::default()
    };
    let mut lanes = Vec::new();
    for lane in context.reader.lanes() {
        buffer.batches += lane.buffered_batches;
        buffer.bytes += lane.buffered_bytes;
        buffer.limit_bytes += lane.limit_bytes;
        buffer.dropped_samples += lane.dropped_samples;
        buffer.damaged_batches += lane.damaged_batches;
        let live = context.live.device(&lane.device);
        let link = live.as_ref().map_or(Link::Starting, |live| live.link());
        devices.count(&link);
        lanes.push(DeviceLane {
            lane,
            link: LinkView::from(&link),
            last_read: live.and_then(|live| live.heard()).map(rfc3339),
        });
    }
    let time = now();
    Ok(HttpResponse::Ok().json(StatusView {
        edge: context.edge_id.clone(),
        version: env!("CARGO_PKG_VERSION"),
        time: rfc3339(time),
        started: rfc3339(context.started),
        uptime_seconds: time.saturating_sub(context.started) as f64 / 1e9,
        uplink: context.reader.uplink().into(),
        devices,
        buffer,
        lanes,
        config: context.config.get(),
        memory_bytes: process::resident_bytes(),
        cpu_seconds: process::cpu_seconds(),
    }))
}
