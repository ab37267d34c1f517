//! What devices are known by, as people see it, and how they accept another machine.

use super::super::output::{self, Align, Style, cell};
use serde_json::{Map, Value as Json, json};

/// The device in the words of access.
pub(super) fn id(device: &str) -> String {
    match device.starts_with("device:") {
        true => device.to_owned(),
        false => format!("device:{device}"),
    }
}

/// The wish that accepts exactly who was seen to answer: whoever answers a moment later is not meant.
pub(super) fn accept(seen: &Json, device: &str) -> anyhow::Result<Json> {
    let id = id(device);
    let answered = list(seen, "answered_in_place_of").find(|peer| cell(peer, "/id") == id);
    let Some(peer) = answered.and_then(Json::as_object) else {
        anyhow::bail!("nobody answers in the place of `{device}`, so there is nothing to accept");
    };
    let peer: Map<_, _> = peer
        .clone()
        .into_iter()
        .filter(|(k, _)| k != "id")
        .collect();
    Ok(json!({"do": "bind", "id": id, "peer": peer}))
}

fn list<'a>(answer: &'a Json, name: &str) -> impl Iterator<Item = &'a Json> {
    let list = answer.get(name).and_then(Json::as_array);
    list.into_iter().flatten()
}

/// A table of the bindings, and of who answers in whose place.
pub(super) fn text(answer: &Json, style: Style) -> String {
    let headings = ["device", "reached at", "address", "MAC", "key"].map(|h| (h, Align::Left));
    let row = |binding: &Json| {
        let mut cells: Vec<_> = ["/id", "/dialled", "/address", "/mac", "/key"]
            .map(|place| cell(binding, place))
            .into();
        if let Some(id) = cells.first_mut() {
            *id = id.trim_start_matches("device:").to_owned();
        }
        cells
    };
    let rows: Vec<_> = list(answer, "bindings").map(row).collect();
    let mut text = output::table(style, &headings, &rows);
    for peer in list(answer, "answered_in_place_of") {
        let of = |place| match cell(peer, place) {
            said if said.is_empty() => "none".to_owned(),
            said => said,
        };
        let (id, address) = (of("/id"), of("/address"));
        let device = id.trim_start_matches("device:");
        text.push_str(&style.red(&format!(
            "another machine answers in the place of {device}: {address}, MAC {}, key {}\n",
            of("/mac"),
            of("/key")
        )));
        text.push_str(&format!(
            "  if that is meant: weighbridge access bind {device}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Json {
        json!({
            "bindings": [{"id": "device:press-1", "dialled": "press:502", "address": "192.0.2.7:502"}],
            "answered_in_place_of": [
                {"id": "device:press-1", "dialled": "press:502", "address": "192.0.2.8:502", "mac": "02:02:02:02:02:02"}
            ],
        })
    }

    #[test]
    fn who_answers_in_whose_place_is_said_with_what_to_do() {
        let text = text(&answer(), Style { colour: false });
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("press-1"), "{line}");
        assert!(line.contains("192.0.2.7:502"), "{line}");
        let wanted = "another machine answers in the place of press-1: 192.0.2.8:502, \
            MAC 02:02:02:02:02:02, key none\n  if that is meant: weighbridge access bind press-1\n";
        assert!(text.ends_with(wanted), "{text}");
    }

    #[test]
    fn what_was_seen_is_accepted_and_nothing_else() {
        for device in ["press-1", "device:press-1"] {
            let wish = accept(&answer(), device).unwrap();
            let peer = json!({"dialled": "press:502", "address": "192.0.2.8:502", "mac": "02:02:02:02:02:02"});
            let wanted = json!({"do": "bind", "id": "device:press-1", "peer": peer});
            assert_eq!(wish, wanted);
        }
        assert!(accept(&answer(), "press-2").is_err());
    }
}
