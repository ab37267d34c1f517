//! `weighbridge write`: writes tags of a device through the hub, and shows what was read back.

use super::http_get::{HubUrl, get_json, path, post};
use super::output::{self, Align, Style, cell};
use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::{Map, Value as Json, json};
use std::process::ExitCode;

/// What `weighbridge write` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge write plc-1 setpoint=4.5
  weighbridge write plc-1 setpoint 4.5                 the same
  weighbridge write plc-1 setpoint=4.5 running=true    both or, when one does not fit, none
  weighbridge write plc-1 offset=-3 --json

The hub checks the values, records the request before it touches the machine, and what came of it
after. Only tags with `writable = true` are written, and only when `roles` in [http] of the hub's
configuration has a role that may, such as \"engineer\".

Exit codes: 0 written and read back, 1 not or not wholly, 69 no hub answers.")]
pub(super) struct WriteArgs {
    /// The device
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Tags and values
    #[arg(
        value_name = "TAG=VALUE",
        required = true,
        allow_negative_numbers = true
    )]
    values: Vec<String>,
    /// A running hub
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL"
    )]
    url: HubUrl,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: WriteArgs) -> anyhow::Result<ExitCode> {
    let device = path(&["api", "v1", "devices", &args.device]);
    let mut body = Map::new();
    for (tag, text) in pairs(&args.values)? {
        let known = get_json(&args.url, &(device.clone() + &path(&["tags", tag])), &[])?;
        let value = value(&cell(&known, "/kind"), text)
            .map_err(|wanted| anyhow!("`{tag}` takes {wanted}, and `{text}` is none"))?;
        if body.insert(tag.to_owned(), value).is_some() {
            bail!("`{tag}` is there twice");
        }
    }
    let target = device + "/write";
    let (status, answer) = post(&args.url, &target, &Json::Object(body))?;
    let results = answer.get("results").and_then(Json::as_array);
    if args.json {
        output::print_json(&answer)?;
    } else if let Some(results) = results {
        let headings = [
            ("tag", Align::Left),
            ("read back", Align::Right),
            ("fault", Align::Left),
        ];
        let cells = |result: &Json| {
            ["/tag", "/value", "/detail"]
                .map(|at| cell(result, at))
                .to_vec()
        };
        let rows: Vec<_> = results.iter().map(cells).collect();
        output::print(&output::table(Style::stdout(), &headings, &rows))?;
    }
    match (status, results) {
        (200, _) => Ok(ExitCode::SUCCESS),
        (_, Some(_)) => Ok(ExitCode::FAILURE),
        _ => bail!(
            "{} was not written: {}",
            args.device,
            cell(&answer, "/detail")
        ),
    }
}

/// `TAG=VALUE …`, or one tag and its value.
fn pairs(values: &[String]) -> anyhow::Result<Vec<(&str, &str)>> {
    if let [tag, value] = values
        && !tag.contains('=')
    {
        return Ok(vec![(tag, value)]);
    }
    let mut pairs = Vec::with_capacity(values.len());
    for given in values {
        let pair = given.split_once('=').filter(|(tag, _)| !tag.is_empty());
        pairs.push(pair.with_context(|| format!("expected TAG=VALUE, not `{given}`"))?);
    }
    Ok(pairs)
}

/// What was typed, as a tag of `kind` takes it; else what it takes.
fn value(kind: &str, text: &str) -> Result<Json, &'static str> {
    match kind {
        "bool" => match text {
            "true" | "on" | "1" => Ok(json!(true)),
            "false" | "off" | "0" => Ok(json!(false)),
            _ => Err("true or false"),
        },
        // As a text, so that every digit arrives.
        "i64" => text
            .parse::<i64>()
            .map(|v| json!(v.to_string()))
            .map_err(|_| "a whole number"),
        "u64" => text
            .parse::<u64>()
            .map(|v| json!(v.to_string()))
            .map_err(|_| "a whole number from 0 on"),
        "f64" => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(json!(number)),
            _ => Err("a number"),
        },
        _ => Ok(json!(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_values_are_typed_either_way() {
        let read = |values: &[&str]| {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            let pairs = pairs(&values).map_err(|e| e.to_string())?;
            let own = pairs.iter().map(|(tag, value)| format!("{tag}:{value}"));
            Ok::<_, String>(own.collect::<Vec<_>>())
        };
        assert_eq!(read(&["a=1", "b=x=y"]).unwrap(), ["a:1", "b:x=y"]);
        assert_eq!(read(&["a", "-1"]).unwrap(), ["a:-1"]);
        assert_eq!(read(&["a="]).unwrap(), ["a:"]);
        for bad in [&["a"][..], &["=1"], &["a", "b", "c"]] {
            assert!(read(bad).unwrap_err().contains("expected TAG=VALUE"));
        }
    }

    #[test]
    fn values_are_of_the_tags_kind() {
        assert_eq!(value("bool", "on"), Ok(json!(true)));
        assert_eq!(value("f64", "-4.5e3"), Ok(json!(-4500.0)));
        let large = u64::MAX.to_string();
        assert_eq!(value("u64", &large), Ok(json!(large)));
        assert_eq!(value("text", "4.5"), Ok(json!("4.5")));
        for (kind, text) in [("bool", "2"), ("i64", "1.5"), ("u64", "-1"), ("f64", "inf")] {
            assert!(value(kind, text).is_err(), "{kind} {text}");
        }
    }
}
