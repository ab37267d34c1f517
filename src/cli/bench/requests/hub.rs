//! The hub that is killed: its directory, its process, and who logs in there.

use crate::access::Credentials;
use crate::cli::bench::http::Connection;
use crate::cli::bench::hub_process::HubProcess;
use crate::crypto::{PasswordHash, SealingKey};
use crate::hub::HubKeys;
use crate::store::CredentialFiles;
use anyhow::{Context, ensure};
use serde_json::{Value as Json, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The hub's id.
pub(super) const HUB: &str = "hub-1";
/// A device that is not there, so that there is an alarm.
pub(super) const GONE: &str = "gone";
/// Everybody's password.
const PASSWORD: &str = "bench requests";
/// Who may read what was recorded and write to the machines.
const ENGINEER: &str = "engineer";
/// Who may only look.
const OBSERVER: &str = "observer";
/// Who does nothing but log in.
const VISITOR: &str = "visitor";

/// What a press is called.
pub(super) fn press(index: usize) -> String {
    format!("press-{index}")
}

/// The hub's directory.
pub(super) struct Plant {
    dir: PathBuf,
    pub(super) sealing: SealingKey,
}

impl Plant {
    /// Makes keys, users and a configuration with a press at each of these addresses.
    pub(super) fn make(
        dir: &Path,
        presses: impl Iterator<Item = SocketAddr>,
    ) -> anyhow::Result<Self> {
        let keys = HubKeys::generate(HUB);
        keys.signing.save(&dir.join("keys/hub.key"))?;
        keys.sealing.save(&dir.join("keys/sealing.key"))?;
        let files = CredentialFiles::new(&dir.join("users"));
        for user in [ENGINEER, OBSERVER, VISITOR] {
            let mut credentials = Credentials::new(user)?;
            credentials.password = Some(PasswordHash::new(PASSWORD.as_bytes())?);
            files.add(&credentials)?;
        }
        let mut config = format!(
            "[hub]\nid = \"{HUB}\"\n[http]\nbind = \"127.0.0.1:0\"\nlog_in = true\n\
             [[http.users]]\nname = \"{ENGINEER}\"\nroles = [\"engineer\"]\n\
             [[http.users]]\nname = \"{OBSERVER}\"\nroles = [\"observer\"]\n\
             [[http.users]]\nname = \"{VISITOR}\"\nroles = [\"observer\"]\n\
             [access]\nflood_requests = 0\n\
             [opcua_server]\nbind = \"127.0.0.1:0\"\nanonymous_roles = [\"engineer\"]\n"
        );
        // The discard port (RFC 863), where nobody listens.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let presses = presses.enumerate().map(|(i, at)| (press(i), at));
        for (id, at) in presses.chain([(GONE.to_owned(), nowhere)]) {
            config += &format!(
                "[[device]]\nid = \"{id}\"\nmodbus = {{ address = \"{at}\", period_ms = 100 }}\n\
                 [[device.tag]]\nname = \"setpoint\"\nwritable = true\n\
                 modbus = {{ holding_register = 0, type = \"u32\" }}\n\
                 [[device.tag]]\nname = \"pressure\"\n\
                 modbus = {{ holding_register = 2, type = \"u16\" }}\n"
            );
        }
        std::fs::write(dir.join("hub.toml"), config)?;
        Ok(Self {
            dir: dir.to_owned(),
            sealing: keys.sealing,
        })
    }

    /// Where the ledger is.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts a hub and waits until it is up.
    pub(super) fn start(&self) -> anyhow::Result<HubProcess> {
        HubProcess::start(&self.dir.join("hub.toml"))
    }
}

/// Where a hub is, and with what it lets in.
pub(super) struct Address {
    pub(super) http: SocketAddr,
    pub(super) opcua: String,
    /// The header of who may write.
    pub(super) engineer: String,
    /// The header of who may not.
    pub(super) observer: String,
}

impl Address {
    /// Logs both users in.
    pub(super) async fn of(hub: &HubProcess) -> anyhow::Result<Self> {
        let http = hub.said("http_url")?.trim_start_matches("http://");
        let http: SocketAddr = http.trim_end_matches('/').parse()?;
        let mut connection = Connection::open(http).await?;
        let mut headers = Vec::with_capacity(2);
        for user in [ENGINEER, OBSERVER] {
            let wish = log_in(user);
            let asked = connection.ask(("POST", "/api/v1/login"), "", &wish);
            let reply = asked.await?;
            let said: Json = serde_json::from_slice(&reply.body).unwrap_or_default();
            ensure!(reply.status == 200, "{user} is not let in: {said}");
            let token = said.get("token").and_then(Json::as_str);
            let token = token.context("the hub gives no token")?;
            headers.push(format!("Authorization: Bearer {token}\r\n"));
        }
        let mut headers = headers.into_iter();
        let mut header = || headers.next().unwrap_or_default();
        Ok(Self {
            http,
            opcua: hub.said("opcua_url")?.to_owned(),
            engineer: header(),
            observer: header(),
        })
    }
}

fn log_in(user: &str) -> String {
    json!({"user": user, "password": PASSWORD, "token": true}).to_string()
}

/// What somebody sends who does nothing but log in.
pub(super) fn visit() -> String {
    log_in(VISITOR)
}
