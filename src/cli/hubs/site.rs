//! The directories of the hubs: what `weighbridge init` makes of each, and in its configuration what `weighbridge
//! cluster card` prints of the others.

use crate::cli::cluster::card;
use crate::cli::http_get::HubUrl;
use crate::cli::init;
use crate::config::{self, HubConfig};
use crate::crypto::{Identity, Signer};
use anyhow::{Context, anyhow, bail};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, value};
use weighbridge_verifier::PublicKey;

/// A hub of the site: what stays when it stops.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Place {
    pub(in crate::cli) id: String,
    pub(in crate::cli) dir: PathBuf,
    pub(in crate::cli) config: PathBuf,
    pub(in crate::cli) key: PublicKey,
    pub(in crate::cli) url: HubUrl,
    /// Ids of the devices that it reads.
    pub(in crate::cli) devices: Vec<String>,
}

/// What is special about the configuration of a hub.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Wishes {
    /// `[[device]]`, in place of all that there were.
    pub(in crate::cli) devices: Vec<Table>,
    /// `[access]`: values by key.
    pub(in crate::cli) access: Vec<(&'static str, i64)>,
}

/// Makes the directories `DIR/hub-1`, `DIR/hub-2` and so on, one for each of the wishes; those that are there stay,
/// with their keys, ledgers and ports, and get these devices.
pub(in crate::cli) fn make(dir: &Path, wishes: &[Wishes]) -> anyhow::Result<Vec<Place>> {
    let hubs: Vec<(String, PathBuf)> = (1..=wishes.len())
        .map(|number| format!("hub-{number}"))
        .map(|id| (id.clone(), dir.join(id)))
        .collect();
    let mut ports = free_ports(3 * hubs.len())?.into_iter();
    std::thread::scope(|scope| {
        // Each makes certificates, which takes a while.
        let making = |(id, dir): &(String, PathBuf)| {
            let (id, dir) = (id.clone(), dir.clone());
            scope.spawn(move || match dir.join("hub.toml").exists() {
                true => Ok(()),
                false => init::of_hub(&dir, &id),
            })
        };
        let threads: Vec<_> = hubs.iter().map(making).collect();
        threads.into_iter().try_for_each(|thread| {
            let made = thread.join();
            made.unwrap_or_else(|_| Err(anyhow!("a hub's directory was not made")))
        })
    })?;
    for ((_, dir), wishes) in hubs.iter().zip(wishes) {
        let three = [ports.next(), ports.next(), ports.next()];
        configure(&dir.join("hub.toml"), three, wishes)?;
    }
    let configs: Vec<HubConfig> = hubs
        .iter()
        .map(|(_, dir)| load(&dir.join("hub.toml")))
        .collect::<Result<_, _>>()?;
    let cards: Vec<String> = configs.iter().map(card).collect::<Result<_, _>>()?;
    let mut places = Vec::with_capacity(hubs.len());
    let mut genesis = None;
    for (index, (((id, dir), config), wishes)) in hubs.iter().zip(&configs).zip(wishes).enumerate()
    {
        let key = Identity::load(&config.hub.signing_key, id)?.public_key();
        let file = dir.join("hub.toml");
        let others = cards
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let others = others.map(|(_, card)| card);
        introduce(&file, others, genesis.as_ref().map(|(id, key)| (id, key)))?;
        genesis.get_or_insert((id.clone(), key));
        // What is started is what `check` finds nothing wrong with.
        load(&file)?;
        let url = format!("http://{}", config.http.bind);
        places.push(Place {
            id: id.clone(),
            dir: dir.clone(),
            config: file,
            key,
            url: url.parse().map_err(|why: String| anyhow!(why))?,
            devices: wishes
                .devices
                .iter()
                .filter_map(name)
                .map(str::to_owned)
                .collect(),
        });
    }
    Ok(places)
}

/// The `[[device]]` tables of a configuration.
pub(in crate::cli) fn device_tables(text: &str) -> anyhow::Result<Vec<Table>> {
    let document: DocumentMut = text.parse()?;
    let devices = document.get("device").and_then(Item::as_array_of_tables);
    Ok(devices.into_iter().flatten().cloned().collect())
}

fn name(table: &Table) -> Option<&str> {
    table.get("id").and_then(Item::as_str)
}

/// Ports that nobody listens on. Somebody may before they are used.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listening: Vec<_> = (0..count)
        .map(|_| TcpListener::bind(any))
        .collect::<Result<_, _>>()?;
    let ports = listening.iter().map(|one| Ok(one.local_addr()?.port()));
    ports.collect()
}

fn document(file: &Path) -> anyhow::Result<DocumentMut> {
    let text = fs::read_to_string(file);
    let text = text.with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(text.parse()?)
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let written = fs::write(file, text);
    written.with_context(|| format!("{} cannot be written", file.display()))
}

fn load(file: &Path) -> anyhow::Result<HubConfig> {
    match config::load(file) {
        Ok(loaded) => Ok(loaded.config),
        Err(found) => {
            let said: String = found.iter().map(|one| one.render(false)).collect();
            bail!("{} is not right:\n{said}", file.display())
        }
    }
}

/// Faces on loopback, ports of its own, and devices.
fn configure(file: &Path, ports: [Option<u16>; 3], wishes: &Wishes) -> anyhow::Result<()> {
    let mut document = document(file)?;
    if !document.contains_key("cluster") {
        let [Some(http), Some(consensus), Some(mesh)] = ports else {
            bail!("there are not enough ports");
        };
        let at = |port: u16| value(format!("127.0.0.1:{port}"));
        let table = |item: Item| item.into_table().unwrap_or_default();
        let mut faces = table(document.remove("http").unwrap_or_default());
        faces.insert("bind", at(http));
        // Alone on this machine, with a site that is not real: everything may be tried.
        let roles: Array = ["engineer", "security_admin"].into_iter().collect();
        faces.insert("roles", value(roles));
        document.insert("http", Item::Table(faces));
        let mut server = table(document.remove("opcua_server").unwrap_or_default());
        server.insert("bind", at(0));
        document.insert("opcua_server", Item::Table(server));
        let mut cluster = Table::new();
        cluster.insert("listen", at(consensus));
        cluster.insert("mesh", at(mesh));
        document.insert("cluster", Item::Table(cluster));
        if !wishes.access.is_empty() {
            let mut access = Table::new();
            for (key, number) in &wishes.access {
                access.insert(key, value(*number));
            }
            document.insert("access", Item::Table(access));
        }
    }
    document.remove("device");
    // As text: tables of another file would be printed among those of this one.
    let mut text = document.to_string();
    for device in &wishes.devices {
        let mut alone = DocumentMut::new();
        let devices: ArrayOfTables = [device.clone()].into_iter().collect();
        alone.insert("device", Item::ArrayOfTables(devices));
        text = format!("{}\n\n{}", text.trim_end(), alone.to_string().trim_start());
    }
    write(file, &text)
}

/// Writes down who the others are, as their cards say it, and who began the chain.
fn introduce<'a>(
    file: &Path,
    others: impl Iterator<Item = &'a String>,
    genesis: Option<(&String, &PublicKey)>,
) -> anyhow::Result<()> {
    let mut document = document(file)?;
    let cluster = document.get_mut("cluster").and_then(Item::as_table_mut);
    let cluster = cluster.context("the configuration has no [cluster]")?;
    cluster.remove("hubs");
    if let Some((hub, key)) = genesis {
        let mut who = InlineTable::new();
        who.insert("hub", hub.as_str().into());
        who.insert("key", key.to_string().into());
        cluster.insert("genesis", value(who));
    }
    let mut text = document.to_string();
    for card in others {
        text = format!("{}\n\n{card}", text.trim_end());
    }
    write(file, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hub_knows_the_others_and_stays_who_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let devices = device_tables(config::cell_devices()).unwrap();
        let wishes: Vec<Wishes> = devices
            .iter()
            .take(2)
            .map(|device| Wishes {
                devices: vec![device.clone()],
                ..Wishes::default()
            })
            .collect();
        let places = make(dir.path(), &wishes).unwrap();
        let ids: Vec<_> = places.iter().map(|place| &*place.id).collect();
        assert_eq!(ids, ["hub-1", "hub-2"]);
        let configs: Vec<_> = places.iter().map(|p| load(&p.config).unwrap()).collect();
        let clusters: Vec<_> = configs
            .iter()
            .map(|config| config.cluster.clone().unwrap())
            .collect();
        assert_eq!(clusters[0].genesis, None);
        assert_eq!(clusters[1].genesis.as_ref().unwrap().key, places[0].key);
        assert_eq!(clusters[0].hubs[0].key, places[1].key);
        assert_eq!(clusters[0].hubs[0].mesh, clusters[1].mesh);
        assert_eq!(places[0].devices, ["plc-1"]);
        assert_eq!(&*configs[1].devices[0].id, "robot-1");

        // Again, without devices: keys and ports stay.
        let again = make(dir.path(), &[Wishes::default(), Wishes::default()]).unwrap();
        for (before, place) in configs.iter().zip(&again) {
            let now = load(&place.config).unwrap();
            assert_eq!(now.cluster, before.cluster);
            assert_eq!(now.http, before.http);
            assert!(now.devices.is_empty());
        }
    }
}
