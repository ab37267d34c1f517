//! `weighbridge alarms`: what is wrong now, and what is done about it.

use super::http_get::{get_json, post_json};
use super::hub_args::HubArgs;
use super::output::{self, Align, Style, cell};
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use std::process::ExitCode;

/// What `weighbridge alarms` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge alarms                                   of the hub running on this machine
  weighbridge alarms --json
  weighbridge alarms ack plc-1/temperature --comment \"fan was off\"
  weighbridge alarms confirm plc-1/temperature
  weighbridge alarms shelve plc-1/temperature --minutes 30

Who asks is whoever logged in (`weighbridge login`), or the user `local` with the `roles` of [http].
Exit codes: 0 listed or done, 1 refused, 69 no hub answers.")]
pub(super) struct AlarmsArgs {
    #[command(flatten)]
    hub: HubArgs,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Say that you saw an alarm
    Ack(Of),
    /// Say that you dealt with it
    Confirm(Of),
    /// Hear nothing of it for a while, or until it is over
    Shelve {
        #[command(flatten)]
        of: Of,
        /// For how long; until it is over when not given
        #[arg(long, value_name = "N")]
        minutes: Option<f64>,
    },
    /// Hear of it again
    Unshelve(Of),
    /// Only say something about it
    Comment(Of),
    /// Have nobody told of it, until it is enabled
    Disable(Of),
    /// Have everybody told of it again
    Enable(Of),
}

#[derive(Debug, Args)]
struct Of {
    /// The alarm: DEVICE/TAG, or DEVICE
    id: String,
    /// What you say of it; it is recorded with your act
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// Only if this is still what the list showed
    #[arg(long, value_name = "NUMBER")]
    event: Option<u64>,
}

pub(super) fn run(args: AlarmsArgs) -> anyhow::Result<ExitCode> {
    let answer = match &args.act {
        None => get_json(&args.hub.url, "/api/v1/alarms", &[])?,
        Some(act) => {
            let (action, of, minutes) = match act {
                Act::Ack(of) => ("acknowledge", of, None),
                Act::Confirm(of) => ("confirm", of, None),
                Act::Shelve { of, minutes } => ("shelve", of, *minutes),
                Act::Unshelve(of) => ("unshelve", of, None),
                Act::Comment(of) => ("comment", of, None),
                Act::Disable(of) => ("disable", of, None),
                Act::Enable(of) => ("enable", of, None),
            };
            let mut body = json!({ "id": of.id, "comment": of.comment });
            if let Some(event) = of.event {
                body["event"] = json!(event);
            }
            if let Some(minutes) = minutes {
                body["minutes"] = json!(minutes);
            }
            let path = format!("/api/v1/alarms/{action}");
            let alarm = post_json(&args.hub.url, &path, &body)?;
            match args.hub.json {
                true => alarm,
                false => json!({ "alarms": [alarm] }),
            }
        }
    };
    match args.hub.json {
        true => output::print_json(&answer)?,
        false => output::print(&text(&answer, Style::stdout()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(answer: &Json, style: Style) -> String {
    let headings = [
        ("alarm", Align::Left),
        ("state", Align::Left),
        ("severity", Align::Right),
        ("since", Align::Left),
        ("by", Align::Left),
        ("what", Align::Left),
    ];
    let row = |alarm: &Json| {
        vec![
            cell(alarm, "/id"),
            state(alarm),
            cell(alarm, "/severity"),
            cell(alarm, "/since"),
            by(alarm),
            cell(alarm, "/message"),
        ]
    };
    let alarms = answer.get("alarms").and_then(Json::as_array);
    let mut text = match alarms.map(Vec::as_slice) {
        None | Some([]) => "there is no alarm\n".to_owned(),
        Some(alarms) => {
            let rows: Vec<_> = alarms.iter().map(row).collect();
            output::table(style, &headings, &rows)
        }
    };
    let beyond = answer.get("beyond").and_then(Json::as_u64).unwrap_or(0);
    if beyond > 0 {
        let more =
            format!("{beyond} more were raised and found no room: set `most` in [alarms] higher\n");
        text.push_str(&more);
    }
    text
}

fn state(alarm: &Json) -> String {
    let is = |key: &str| alarm.get(key).and_then(Json::as_bool).unwrap_or(false);
    let mut words = vec![if is("active") { "active" } else { "over" }];
    if alarm.get("enabled").and_then(Json::as_bool) == Some(false) {
        words.push("disabled");
    }
    words.push(match (is("acknowledged"), is("confirmed")) {
        (false, _) => "unseen",
        (true, false) => "seen",
        (true, true) => "dealt with",
    });
    match alarm.get("shelving").and_then(Json::as_str) {
        Some("timed") => words.push("shelved for a time"),
        Some("one_shot") => words.push("shelved until it is over"),
        _ => {}
    }
    words.join(", ")
}

/// Who last did or said something, and what they said.
fn by(alarm: &Json) -> String {
    match (cell(alarm, "/user"), cell(alarm, "/comment")) {
        (user, _) if user.is_empty() => String::new(),
        (user, said) => format!("{user}: {said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_wrong_and_what_was_done_about_it() {
        let alarm = json!({
            "id": "plc-1/temperature", "active": true, "acknowledged": true, "confirmed": false,
            "shelving": "one_shot", "severity": 600, "since": "2026-01-02T03:04:05.678Z",
            "user": "anna", "comment": "fan", "message": "too hot",
        });
        let text = text(
            &json!({"alarms": [alarm], "beyond": 2}),
            Style { colour: false },
        );
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("plc-1/temperature  active, seen, shelved until it is over"));
        assert!(line.contains("anna: fan") && line.contains("too hot"));
        assert!(text.contains("2 more were raised"));
    }

    #[test]
    fn peace_is_said_to_be_peace() {
        let answer = json!({"alarms": [], "beyond": 0});
        assert_eq!(
            text(&answer, Style { colour: false }),
            "there is no alarm\n"
        );
    }
}
