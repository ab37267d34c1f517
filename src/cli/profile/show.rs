//! Profiles for people.

use crate::cli::output::{self, Align, Style};
use crate::config::TagConfig;
use crate::config::profile::{Parameter, Profile, Shelf};
use serde_json::{Value as Json, json};
use std::process::ExitCode;

pub(super) fn list(shelf: &Shelf, json: bool) -> anyhow::Result<ExitCode> {
    let found: Vec<_> = shelf
        .names()
        .into_iter()
        .map(|id| {
            let place = match (shelf.is_built_in(&id), shelf.path()) {
                (false, Some(folder)) => folder.display().to_string(),
                _ => "built in".to_owned(),
            };
            (Profile::find(&id, shelf), id, place)
        })
        .collect();
    if json {
        let profiles: Vec<_> = found
            .iter()
            .map(|(profile, id, place)| match profile {
                Ok(p) => json!({
                    "id": id, "name": p.name, "version": p.version, "source": p.source,
                    "extends": p.extends, "place": place, "tags": p.device.tags.len(),
                }),
                Err(wrong) => json!({ "id": id, "place": place, "errors": wrong.len() }),
            })
            .collect();
        output::print_json(&json!({ "profiles": profiles }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let style = Style::stdout();
    let headings = [
        ("profile", Align::Left),
        ("version", Align::Left),
        ("tags", Align::Right),
        ("place", Align::Left),
        ("machine", Align::Left),
    ];
    let rows: Vec<_> = found
        .iter()
        .map(|(profile, id, place)| match profile {
            Ok(p) => vec![
                id.clone(),
                p.version.clone(),
                p.device.tags.len().to_string(),
                place.clone(),
                p.name.clone(),
            ],
            Err(_) => vec![
                id.clone(),
                String::new(),
                String::new(),
                place.clone(),
                style.red("has mistakes: `weighbridge check` its file"),
            ],
        })
        .collect();
    output::print(&output::table(style, &headings, &rows))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn show(profile: &Profile, as_toml: bool, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        output::print_json(&as_json(profile))?;
    } else if as_toml {
        let device = toml::to_string(&Devices {
            device: [&profile.device],
        })?;
        output::print(&device)?;
    } else {
        output::print(&text(profile, Style::stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A device as a configuration has it.
#[derive(serde::Serialize)]
struct Devices<'a> {
    device: [&'a crate::config::DeviceConfig; 1],
}

fn text(profile: &Profile, style: Style) -> String {
    let mut out = format!(
        "{}  {}, version {}\n",
        style.bold(&profile.id),
        profile.name,
        profile.version
    );
    out.push_str(&format!("source: {}\n", profile.source));
    if !profile.description.is_empty() {
        out.push_str(&format!("{}\n", profile.description));
    }
    if !profile.extends.is_empty() {
        out.push_str(&format!("extends: {}\n", profile.extends.join(", ")));
    }
    if !profile.parameters.is_empty() {
        let headings = [
            ("parameter", Align::Left),
            ("type", Align::Left),
            ("default", Align::Left),
            ("range", Align::Left),
            ("meaning", Align::Left),
        ];
        let parameters = profile.parameters.iter();
        let rows: Vec<_> = parameters.map(|(name, p)| row(name, p)).collect();
        out.push('\n');
        out.push_str(&output::table(style, &headings, &rows));
    }
    let headings = [
        ("tag", Align::Left),
        ("unit", Align::Left),
        ("address", Align::Left),
        ("meaning", Align::Left),
    ];
    let tag = |tag: &TagConfig| {
        vec![
            tag.name.clone(),
            tag.unit.clone(),
            address(tag),
            tag.description.clone(),
        ]
    };
    let rows: Vec<_> = profile.device.tags.iter().map(tag).collect();
    out.push('\n');
    out.push_str(&output::table(style, &headings, &rows));
    out
}

fn row(name: &str, parameter: &Parameter) -> Vec<String> {
    let default = match (&parameter.default, &parameter.example) {
        (Some(default), _) => default.as_toml(),
        (None, Some(example)) => format!("needed, like {}", example.as_toml()),
        (None, None) => String::new(),
    };
    let choices: Vec<_> = parameter.choices.iter().map(|c| c.as_toml()).collect();
    let range = match parameter.range {
        Some((low, high)) => format!("{low} to {high}"),
        None => choices.join(", "),
    };
    vec![
        name.to_owned(),
        parameter.kind.name().to_owned(),
        default,
        range,
        parameter.help.clone(),
    ]
}

/// Where a tag is, as a configuration has it.
fn address(tag: &TagConfig) -> String {
    let modbus = tag.modbus.as_ref().map(toml::Value::try_from);
    let opcua = tag.opcua.as_ref().map(|point| point.node.to_string());
    match (modbus, opcua) {
        (Some(Ok(toml::Value::Table(point))), _) => {
            let parts = point.iter().map(|(key, value)| match value {
                toml::Value::String(text) => format!("{key} {text}"),
                other => format!("{key} {other}"),
            });
            parts.collect::<Vec<_>>().join(", ")
        }
        (_, Some(node)) => node,
        _ => String::new(),
    }
}

fn as_json(profile: &Profile) -> Json {
    let parameters: Vec<_> = profile
        .parameters
        .iter()
        .map(|(name, p)| {
            json!({
                "name": name, "type": p.kind.name(), "default": p.default, "example": p.example,
                "range": p.range, "choices": p.choices, "help": p.help,
            })
        })
        .collect();
    let tags: Vec<_> = profile
        .device
        .tags
        .iter()
        .map(|tag| {
            json!({
                "name": tag.name, "unit": tag.unit, "description": tag.description,
                "address": address(tag), "range": tag.range.map(|range| range.bounds()),
            })
        })
        .collect();
    json!({
        "id": profile.id, "name": profile.name, "version": profile.version,
        "source": profile.source, "description": profile.description,
        "extends": profile.extends, "parameters": parameters, "tags": tags,
        "cases": profile.cases.len(),
    })
}
