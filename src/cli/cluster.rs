//! `weighbridge cluster`: the hubs that share a chain: what each needs to know of the others, how they are, and who
//! comes and goes.

use super::http_get::{HubUrl, get_json, post_json};
use super::output::{self, Align, Style, cell};
use crate::cluster::network_id;
use crate::config::{self, HubConfig};
use crate::crypto::{Identity, NetworkSeed, SealingKey, Signer};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use weighbridge_verifier::PublicKey;

const CLUSTER: &str = "/api/v1/cluster";
const VOTES: &str = "/api/v1/cluster/votes";

/// What `weighbridge cluster` is told.
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print what the other hubs' configurations need to know of this one
    Card(CardArgs),
    /// Show who shares the chain, and how they are
    Status(StatusArgs),
    /// Vote for letting a hub in
    Admit(VoteArgs),
    /// Vote for letting a hub stand by: it takes the place of one that is dismissed
    Standby(VoteArgs),
    /// Vote for letting a hub go, or stand by no longer
    Dismiss(VoteArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge cluster card --config plant/hub.toml

Only public keys are printed. The network key is made when it is not there yet.")]
struct CardArgs {
    /// The configuration of a hub with `[cluster]`
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge cluster status
  weighbridge cluster status --url http://127.0.0.1:8081 --json

Exit codes: 0 the hub answered, 1 it shares no chain, 69 no hub answers.")]
struct StatusArgs {
    #[command(flatten)]
    hub: Asked,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge cluster admit --id hub-b --key 02e2…52 --url http://127.0.0.1:8080
  weighbridge cluster standby --id hub-e --key 02f0…11
  weighbridge cluster dismiss --id hub-b --key 02e2…52

It is the vote of the hub that is asked. It counts when as many hubs as decide a block have said the very same;
`weighbridge cluster status` says how many that are. Whoever asks here is the user `local`; it takes
\"security_admin\" in `roles` in [http].
Exit codes: 0 the vote is on record, 1 refused, 69 no hub answers.")]
struct VoteArgs {
    /// The hub's id
    #[arg(long, value_name = "ID")]
    id: String,
    /// Its public signing key, as `weighbridge cluster card` prints it there
    #[arg(long, value_name = "KEY")]
    key: PublicKey,
    /// How the hubs are trusted that there are then
    #[arg(long, value_enum, default_value = "byzantine")]
    faults: Faults,
    #[command(flatten)]
    hub: Asked,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Faults {
    /// Fewer than a third may lie
    Byzantine,
    /// Of three hubs one may stop, and none lies
    Crash,
}

#[derive(Debug, Args)]
struct Asked {
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

pub(super) fn command(args: ClusterArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Card(args) => print_card(&args.config),
        What::Status(StatusArgs { hub }) => status(&hub),
        What::Admit(vote) => send(&vote, "admit"),
        What::Standby(vote) => send(&vote, "standby"),
        What::Dismiss(vote) => send(&vote, "dismiss"),
    }
}

fn print_card(path: &Path) -> anyhow::Result<ExitCode> {
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(found) => {
            let style = Style::stderr();
            for diagnostic in &found {
                eprintln!("{}", diagnostic.render(style.colour));
            }
            return Ok(ExitCode::from(super::EXIT_CONFIG));
        }
    };
    output::print(&card(&loaded.config)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The entry of a hub in the files of the others.
pub(super) fn card(config: &HubConfig) -> anyhow::Result<String> {
    let hub = &config.hub;
    let cluster = config.cluster.as_ref();
    let cluster = cluster.ok_or_else(|| {
        anyhow::anyhow!(
            "the file has no `[cluster]`: add it, with `listen` and `mesh`, the addresses at which the other hubs \
             reach this one"
        )
    })?;
    let signing = Identity::load(&hub.signing_key, &hub.id)?;
    let sealing = SealingKey::load(&hub.sealing_key)?;
    let network = network_id(&NetworkSeed::load_or_make(&cluster.network_key)?)?;
    let mut text = format!(
        "# For the file of each other hub that shares the chain with {}:\n\n[[cluster.hubs]]\nid = \"{}\"\nkey = \
         \"{}\"\nsealing = \"{}\"\nnetwork = \"{network}\"\nconsensus = \"{}\"\nmesh = \"{}\"\n",
        hub.id,
        hub.id,
        signing.public_key(),
        sealing.public().compressed(),
        cluster.listen,
        cluster.mesh,
    );
    if cluster.listen.ip().is_unspecified() || cluster.mesh.ip().is_unspecified() {
        text += "# It listens on every address: say one at which the others reach it.\n";
    }
    Ok(text)
}

fn status(asked: &Asked) -> anyhow::Result<ExitCode> {
    let answer = get_json(&asked.url, CLUSTER, &[])?;
    match asked.json {
        true => output::print_json(&answer)?,
        false => output::print(&text(&answer, Style::stdout()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn send(vote: &VoteArgs, change: &str) -> anyhow::Result<ExitCode> {
    let faults = match vote.faults {
        Faults::Byzantine => "byzantine",
        Faults::Crash => "crash",
    };
    let body = json!({"hub": vote.id, "key": vote.key, "change": change, "faults": faults});
    let answer = post_json(&vote.hub.url, VOTES, &body)?;
    match vote.hub.json {
        true => output::print_json(&answer)?,
        false => output::print(&format!(
            "block {} records the vote; `weighbridge cluster status` shows whether it counts yet\n",
            cell(&answer, "/height")
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// How a cluster is, for people.
fn text(answer: &Json, style: Style) -> String {
    let at = |pointer: &str| cell(answer, pointer);
    let mut text = format!("{}\n", line(answer, style));
    let alarms = answer["alarms"].as_array().into_iter().flatten();
    for alarm in alarms.filter_map(Json::as_str) {
        let alarm = alarm.replace(char::is_control, " ");
        text += &format!("{}     {alarm}\n", style.red("alarm"));
    }
    let headings = [
        ("hub", Align::Left),
        ("decides", Align::Left),
        ("link", Align::Left),
        ("height", Align::Right),
        ("key", Align::Left),
    ];
    let hubs = answer["hubs"].as_array().into_iter().flatten();
    let rows: Vec<_> = hubs
        .map(|hub| {
            let yes = |key: &str| hub[key].as_bool().unwrap_or(false);
            let link = match (yes("own"), yes("connected")) {
                (true, _) => "this one",
                (false, true) => "up",
                (false, false) => "down",
            };
            vec![
                cell(hub, "/id"),
                match (yes("member"), hub["standby"].as_u64()) {
                    (true, _) => "yes".to_owned(),
                    (false, Some(place)) => format!("standby {place}"),
                    (false, None) => "no".to_owned(),
                },
                link.to_owned(),
                cell(hub, "/height"),
                cell(hub, "/key"),
            ]
        })
        .collect();
    text += &format!("\n{}", output::table(style, &headings, &rows));
    let votes = answer["votes"].as_array().into_iter().flatten();
    for vote in votes {
        text += &format!(
            "vote: {} {}, by {} of {} needed\n",
            cell(vote, "/change"),
            cell(vote, "/hub"),
            vote["by"].as_array().map_or(0, Vec::len),
            at("/threshold"),
        );
    }
    let leases = answer["leases"].as_array().into_iter().flatten();
    for lease in leases {
        let since = lease["since"]
            .as_str()
            .map(|since| format!(" since {since}"));
        text += &format!(
            "{}: read by {}, epoch {}{}\n",
            cell(lease, "/device"),
            cell(lease, "/hub"),
            cell(lease, "/epoch"),
            since.unwrap_or_default(),
        );
    }
    text
}

/// The same in one line, for a hub's status.
pub(super) fn line(answer: &Json, style: Style) -> String {
    let at = |pointer: &str| cell(answer, pointer);
    let hubs = answer["hubs"].as_array().into_iter().flatten();
    let hubs = hubs.filter(|hub| hub["member"] == true).count();
    let doing = match (answer["halted"].as_str(), answer["parked"].as_bool()) {
        (Some(why), _) => style.red(&format!("stands still: {why}")),
        (None, Some(true)) => "nothing to decide".to_owned(),
        (None, _) => format!("deciding block {}", at("/deciding")),
    };
    let open = format!("{} of its records not yet agreed", at("/open"));
    let open = match answer["open"].as_u64() {
        Some(0) | None => open,
        Some(_) => style.yellow(&open),
    };
    let unread = match answer["unread"].as_u64() {
        Some(0) | None => String::new(),
        Some(unread) => style.red(&format!(", {unread} entries of access not read yet")),
    };
    format!(
        "{} of {hubs} hubs decide, {} linked; {doing}; {open}, {} sealed values missing{unread}",
        at("/threshold"),
        at("/linked"),
        at("/missing"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_what_another_hubs_file_takes() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        Identity::generate("hub-a").save(&file("hub.key")).unwrap();
        SealingKey::generate().save(&file("sealing.key")).unwrap();
        let text = format!(
            "[hub]\nid = \"hub-a\"\nsigning_key = {:?}\nsealing_key = {:?}\n[cluster]\nlisten = \
             \"127.0.0.1:7400\"\nmesh = \"127.0.0.1:7401\"\nnetwork_key = {:?}\n",
            file("hub.key"),
            file("sealing.key"),
            file("network.key"),
        );
        let config = config::parse(&text, "hub.toml").unwrap().config;
        let first = card(&config).unwrap();
        assert_eq!(card(&config).unwrap(), first, "its key stays");
        let other = format!(
            "[hub]\nid = \"hub-b\"\n[cluster]\nlisten = \"127.0.0.1:7410\"\nmesh = \"127.0.0.1:7411\"\n{first}"
        );
        let other = config::parse(&other, "hub.toml").unwrap().config;
        let known = &other.cluster.unwrap().hubs[0];
        assert_eq!(known.id, "hub-a");
        assert_eq!(known.consensus, config.cluster.unwrap().listen);
    }

    #[test]
    fn a_status_is_readable_and_an_empty_one_no_panic() {
        let plain = Style { colour: false };
        let answer = json!({
            "threshold": 3, "height": 9, "deciding": 10, "parked": false, "halted": null, "linked": 2,
            "open": 4, "missing": 0, "alarms": ["the store is behind"],
            "hubs": [
                {"id": "hub-a", "member": true, "own": true, "connected": true, "height": 9, "key": "02ab"},
                {"id": "hub-b", "member": true, "own": false, "connected": false, "height": 7, "key": "02cd"},
                {"id": "hub-e", "member": false, "standby": 1, "connected": true, "height": 8, "key": "02ef"},
            ],
            "votes": [{"hub": "hub-c", "change": "admit", "by": ["hub-a"]}],
        });
        let said = text(&answer, plain);
        for part in [
            "standby 1",
            "3 of 2 hubs decide, 2 linked; deciding block 10; 4 of its records not yet agreed",
            "alarm     the store is behind",
            "this one",
            "vote: admit hub-c, by 1 of 3 needed",
        ] {
            assert!(said.contains(part), "{said}");
        }
        text(&json!({}), plain);
    }
}
