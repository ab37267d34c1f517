//! `/metrics` in the text format of Prometheus.
//!
//! The numbers live in `Stats`, `LiveView` and the ledger; each scrape copies them into a registry
//! of its own, so nothing is counted twice and nothing is left behind by a device that is gone.

use super::cluster::ClusterStatus;
use super::context::ApiContext;
use super::problem::Problem;
use super::process;
use super::server::Api;
use crate::alarms::Alarm;
use crate::live_view::Link;
use actix_web::{HttpResponse, web};
use prometheus::{
    Encoder, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// The hub's figures.
pub(super) const PATH: &str = "/metrics";

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.route(PATH, web::to(metrics));
}

async fn metrics(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let text = scrape(&api.context)
        .map_err(|e| Problem::internal(format!("the metrics cannot be gathered: {e}")))?;
    Ok(HttpResponse::Ok()
        .content_type(TextEncoder::new().format_type())
        .body(text))
}

/// A registry that is filled once.
struct Scrape(Registry);

impl Scrape {
    fn counter(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let metric = IntCounter::new(name, help)?;
        metric.inc_by(value);
        self.0.register(Box::new(metric))
    }

    fn gauge(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        let metric = Gauge::new(name, help)?;
        metric.set(value);
        self.0.register(Box::new(metric))
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
        let metric = IntCounterVec::new(Opts::new(name, help), &[label])?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn scrape(context: &ApiContext) -> prometheus::Result<String> {
    let out = Scrape(Registry::new());
    hub(&out, context)?;
    devices(&out, context)?;
    own_process(&out, context)?;
    TextEncoder::new().encode_to_string(&out.0.gather())
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn hub(out: &Scrape, context: &ApiContext) -> prometheus::Result<()> {
    let stats = &context.stats;
    out.counter(
        "weighbridge_points_total",
        "Points in durable batches since the hub started.",
        read(&stats.points),
    )?;
    out.gauge(
        "weighbridge_sessions",
        "User sessions that are open, over all faces.",
        context.sessions.open() as f64,
    )?;
    let alarms = context.alarms.alarms();
    let count = |wanted: fn(&Alarm) -> bool| alarms.iter().filter(|a| wanted(a)).count() as f64;
    out.gauge(
        "weighbridge_alarms_active",
        "Alarms whose cause is there now.",
        count(|alarm| alarm.active),
    )?;
    out.gauge(
        "weighbridge_alarms_unacknowledged",
        "Alarms that nobody has acknowledged.",
        count(|alarm| !alarm.acknowledged),
    )?;
    out.counter(
        "weighbridge_alarms_beyond_total",
        "Alarms that were raised since the hub started and found no room.",
        context.alarms.beyond(),
    )?;
    let batches = out.counters(
        "weighbridge_batches_total",
        "Durable or refused batches since the hub started, by verdict.",
        "verdict",
    )?;
    for (verdict, counter) in [
        ("accepted", &stats.accepted),
        ("out_of_control", &stats.out_of_control),
        ("invalid", &stats.invalid),
    ] {
        batches.with_label_values(&[verdict]).inc_by(read(counter));
    }
    out.counter(
        "weighbridge_blocks_total",
        "Blocks made since the hub started.",
        read(&stats.blocks),
    )?;
    out.counter(
        "weighbridge_records_total",
        "Records in blocks made since the hub started.",
        read(&stats.records),
    )?;
    out.counter(
        "weighbridge_sealed_bytes_total",
        "Bytes of ciphertext stored since the hub started.",
        read(&stats.sealed_bytes),
    )?;
    let tip = context.ledger.tip();
    let height = IntGauge::new("weighbridge_ledger_height", "Height of the newest block.")?;
    height.set(tip.map_or(0, |t| i64::try_from(t.height).unwrap_or(i64::MAX)));
    out.0.register(Box::new(height))?;
    out.gauge(
        "weighbridge_ledger_up",
        "1 when the ledger takes new blocks, else 0.",
        f64::from(u8::from(context.ledger.trouble().is_none())),
    )?;
    out.gauge(
        "weighbridge_ledger_last_block_timestamp_seconds",
        "When the newest block was made, in seconds since 1970; 0 while there is none.",
        tip.map_or(0.0, |t| t.time as f64 / 1e9),
    )?;
    if let Some(retention) = context.ledger.retention() {
        let gauges = [
            (
                "weighbridge_retention_bodies_horizon",
                "Height up to which the bodies of blocks are retired.",
                retention.bodies_horizon,
            ),
            (
                "weighbridge_retention_batches_horizon",
                "Height up to which sealed batches are retired.",
                retention.batches_horizon,
            ),
            (
                "weighbridge_retention_used_bytes",
                "Bytes of the data directory without the store's journal, when last looked at.",
                retention.used_bytes,
            ),
            (
                "weighbridge_retention_archived_bytes",
                "Bytes of the segments of the archive that are on record.",
                retention.archived_bytes,
            ),
            (
                "weighbridge_retention_up",
                "1 when retiring goes on as it should, else 0.",
                u64::from(retention.trouble.is_none()),
            ),
        ];
        for (name, help, value) in gauges {
            out.gauge(name, help, value as f64)?;
        }
    }
    if let Some(cluster) = context.cluster.as_ref().map(|cluster| cluster.status()) {
        of_cluster(out, &cluster)?;
    }
    let info = GaugeVec::new(
        Opts::new(
            "weighbridge_info",
            "Always 1; its labels name the hub and its version.",
        ),
        &["hub", "version"],
    )?;
    info.with_label_values(&[context.hub_id.as_str(), env!("CARGO_PKG_VERSION")])
        .set(1.0);
    out.0.register(Box::new(info))
}

fn of_cluster(out: &Scrape, cluster: &ClusterStatus) -> prometheus::Result<()> {
    let members = cluster.hubs.iter().filter(|hub| hub.member).count();
    let gauges = [
        (
            "weighbridge_cluster_hubs",
            "Hubs that decide the chain.",
            members as u64,
        ),
        (
            "weighbridge_cluster_threshold",
            "How many of them must agree.",
            u64::from(cluster.threshold),
        ),
        (
            "weighbridge_cluster_linked",
            "Hubs that consensus is connected to.",
            cluster.linked as u64,
        ),
        (
            "weighbridge_cluster_open_records",
            "Records of this hub that no block has yet.",
            cluster.open,
        ),
        (
            "weighbridge_cluster_missing_sealed",
            "Sealed values of the chain that are not here yet.",
            cluster.missing as u64,
        ),
        (
            "weighbridge_cluster_unread_access",
            "Entries of access that cannot be read here yet.",
            cluster.unread as u64,
        ),
        (
            "weighbridge_cluster_up",
            "1 when this hub takes part in deciding, else 0.",
            u64::from(cluster.halted.is_none()),
        ),
    ];
    for (name, help, value) in gauges {
        out.gauge(name, help, value as f64)?;
    }
    Ok(())
}

fn devices(out: &Scrape, context: &ApiContext) -> prometheus::Result<()> {
    let up = IntGaugeVec::new(
        Opts::new(
            "weighbridge_device_up",
            "1 when the device answers, else 0.",
        ),
        &["device"],
    )?;
    out.0.register(Box::new(up.clone()))?;
    let points = out.counters(
        "weighbridge_device_points_total",
        "Points read from the device since the hub started.",
        "device",
    )?;
    let dropped = out.counters(
        "weighbridge_device_dropped_total",
        "Samples of the device that had to be dropped and were not recorded.",
        "device",
    )?;
    let reconnects = out.counters(
        "weighbridge_device_reconnects_total",
        "Reconnections to the device since the hub started.",
        "device",
    )?;
    for device in context.live.devices() {
        let label = [&*device.id];
        let answers = i64::from(device.link() == Link::Up);
        up.with_label_values(&label).set(answers);
        points
            .with_label_values(&label)
            .inc_by(read(&device.points));
        dropped
            .with_label_values(&label)
            .inc_by(read(&device.dropped));
        let metric = reconnects.with_label_values(&label);
        metric.inc_by(read(&device.reconnects));
    }
    Ok(())
}

fn own_process(out: &Scrape, context: &ApiContext) -> prometheus::Result<()> {
    if let Some(bytes) = process::resident_bytes() {
        out.gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            bytes as f64,
        )?;
    }
    if let Some(seconds) = process::cpu_seconds() {
        let metric = prometheus::Counter::new(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
        )?;
        metric.inc_by(seconds);
        out.0.register(Box::new(metric))?;
    }
    out.gauge(
        "process_start_time_seconds",
        "When the hub started, in seconds since 1970.",
        context.started as f64 / 1e9,
    )
}
