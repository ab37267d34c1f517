//! `weighbridge read`: the newest values of a device's tags.

use super::http_get::{HubUrl, get_json, path};
use super::live::{self, Row};
use super::output::{self, Style};
use super::{EXIT_CONFIG, output::Align};
use crate::config;
use crate::hub::DeviceSetup;
use crate::model::{BatchBuilder, Quality, TagSpec, Value, rfc3339};
use crate::protocols::{Mode, Source, SourceError};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::timeout;

/// How long a device that is read directly may take.
const DIRECT: Duration = Duration::from_secs(10);

/// What `weighbridge read` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge read plc-1 temperature                   from the hub running on this machine
  weighbridge read plc-1                               all its tags
  weighbridge read plc-1 temperature --json
  weighbridge read plc-1 --direct --config hub.toml    from the device itself, without a hub

Exit codes: 0 read, 1 a value is bad or missing or the device does not answer, 69 no hub answers,
78 the configuration is wrong.")]
pub(super) struct ReadArgs {
    /// The device
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Its tags; all when there are none
    #[arg(value_name = "TAG")]
    tags: Vec<String>,
    /// A running hub
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL"
    )]
    url: HubUrl,
    /// Read from the device itself; needs --config
    #[arg(long, requires = "config")]
    direct: bool,
    /// The configuration that knows the device
    #[arg(long, value_name = "FILE", requires = "direct")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: ReadArgs) -> anyhow::Result<ExitCode> {
    let tags = match &args.config {
        Some(file) if args.direct => match direct(file, &args)? {
            Some(tags) => tags,
            None => return Ok(ExitCode::from(EXIT_CONFIG)),
        },
        _ => of_hub(&args)?,
    };
    let rows: Vec<Row> = tags.iter().map(Row::new).collect();
    if args.json {
        output::print_json(&json!({"device": args.device, "tags": tags}))?;
    } else {
        let headings = [
            ("tag", Align::Left),
            ("value", Align::Right),
            ("unit", Align::Left),
            ("quality", Align::Left),
            ("time", Align::Left),
        ];
        let cells: Vec<_> = rows.iter().map(Row::cells).collect();
        output::print(&output::table(Style::stdout(), &headings, &cells))?;
        if let Some(trouble) = tags.iter().find_map(|tag| live::trouble(tag.get("link")?)) {
            eprintln!("{} is down: {trouble}", args.device);
        }
    }
    Ok(match rows.iter().all(|row| row.fine) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The tags as the hub shows them.
fn of_hub(args: &ReadArgs) -> anyhow::Result<Vec<Json>> {
    let device = path(&["api", "v1", "devices", &args.device]);
    if args.tags.is_empty() {
        let limit = [("limit", "1000".to_owned())];
        let mut answer = get_json(&args.url, &device, &limit)?;
        let link = answer.get("link").cloned();
        let tags = answer.get_mut("tags").and_then(Json::as_array_mut);
        let mut tags = std::mem::take(tags.context("the answer has no `tags`")?);
        if let (Some(first), Some(link)) = (tags.first_mut(), link) {
            first["link"] = link;
        }
        return Ok(tags);
    }
    let one = |tag: &String| get_json(&args.url, &(device.clone() + &path(&["tags", tag])), &[]);
    args.tags.iter().map(one).collect()
}

/// The tags as the device itself gives them; `None` when the configuration is wrong, which is said.
fn direct(file: &Path, args: &ReadArgs) -> anyhow::Result<Option<Vec<Json>>> {
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            for diagnostic in &diagnostics {
                eprintln!("{}", diagnostic.render(Style::stderr().colour));
            }
            return Ok(None);
        }
    };
    let mut devices = loaded.config.devices.iter();
    let Some(device) = devices.find(|device| *device.id == *args.device) else {
        bail!("{} has no device `{}`", file.display(), args.device);
    };
    let setup = DeviceSetup::from_config(device)?;
    for tag in &args.tags {
        if !setup.tags.iter().any(|spec| *spec.name == **tag) {
            bail!(
                "the device `{}` has no tag `{tag}` in {}",
                args.device,
                file.display()
            );
        }
    }
    let wanted =
        |spec: &TagSpec| args.tags.is_empty() || args.tags.iter().any(|tag| *spec.name == **tag);
    let Some(make) = setup.source() else {
        bail!("`{}` is read by an edge node: read it there", args.device);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the asynchronous runtime cannot be started")?;
    let read = runtime.block_on(async {
        let mut newest = vec![None; setup.tags.len()];
        let reading = read_device((&setup, make()), &wanted, &mut newest);
        match timeout(DIRECT, reading).await {
            Ok(read) => read.map(|()| newest),
            // A subscription tells of what changes: what did not come has no value.
            Err(_) if newest.iter().any(Option::is_some) => Ok(newest),
            Err(_) => Err(SourceError::Timeout {
                address: args.device.clone(),
                milliseconds: DIRECT.as_millis() as u64,
            }),
        }
    });
    // A name server that does not answer must not keep the program.
    runtime.shutdown_background();
    let newest = match read {
        Ok(newest) => newest,
        Err(error) => bail!("{} ({})", error.plain(), error.exact()),
    };
    let tags = setup.tags.iter().zip(newest);
    let tags = tags.filter(|(spec, _)| wanted(spec));
    Ok(Some(
        tags.map(|(spec, sample)| tag_json(spec, sample)).collect(),
    ))
}

type Newest = Option<(i64, Quality, Value)>;

/// Connects and reads until every wanted tag has a value.
async fn read_device(
    (setup, mut source): (&DeviceSetup, Box<dyn Source>),
    wanted: &dyn Fn(&TagSpec) -> bool,
    newest: &mut [Newest],
) -> Result<(), SourceError> {
    source.connect().await?;
    let device = setup.id.clone();
    let mut builder = match source.mode() {
        Mode::Scanning => BatchBuilder::scanning(device, source.tags()),
        Mode::Subscribing => BatchBuilder::subscribing(device, source.tags()),
    };
    loop {
        source.read(&mut builder).await?;
        for (column, time, quality, value) in builder.newest() {
            if let Some(slot) = newest.get_mut(column) {
                *slot = Some((time, quality, value));
            }
        }
        let there = setup.tags.iter().zip(newest.iter());
        if there
            .into_iter()
            .all(|(spec, sample)| sample.is_some() || !wanted(spec))
        {
            break;
        }
    }
    source.close().await;
    Ok(())
}

/// A tag in the words of the hub's interface.
fn tag_json(spec: &TagSpec, sample: Newest) -> Json {
    let sample = sample.map(|(time, quality, value)| {
        json!({
            "value": crate::api::views::value(&value),
            "time": rfc3339(time),
            "time_ns": time.to_string(),
            "quality": quality.severity(),
            "status_code": quality.0,
        })
    });
    json!({"tag": &*spec.name, "kind": spec.kind, "unit": spec.unit, "sample": sample})
}
