//! Configurations of chains that one process runs: what each of them must have for itself.
//!
//! Chains of several organisations and privacy grades are apart because nothing of one is where another's is: keys,
//! ledgers, users and doors. A file that says otherwise is a mistake, and is found before anything is opened.

use super::{Diagnostic, HubConfig, Severity};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

/// What is wrong about running the chains of these files in one process. Nothing is where there is one file.
pub fn side_by_side(files: &[(&Path, &HubConfig)]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if files.len() < 2 {
        return found;
    }
    let owned: Vec<_> = files.iter().map(|(_, config)| Own::of(config)).collect();
    for (index, ((file, config), own)) in files.iter().zip(&owned).enumerate() {
        let name = file.display().to_string();
        let mut mistake = |message: String, help: &str| {
            let mut diagnostic = Diagnostic::new(Severity::Error, &name, message);
            diagnostic.help.push(help.to_owned());
            found.push(diagnostic);
        };
        if config.edge.is_some() {
            mistake(
                "an edge node runs in a process of its own".to_owned(),
                "leave this file out, and start it by itself",
            );
        }
        for ((other_file, other), others) in files.iter().zip(&owned).take(index) {
            let other_file = other_file.display();
            if config.ledger.chain == other.ledger.chain {
                let chain = &config.ledger.chain;
                mistake(
                    format!("the chain `{chain}` is that of {other_file} as well"),
                    "give each chain a name of its own, `[ledger] chain = \"acme-1\"`; hubs of one chain run in \
                     processes of their own",
                );
            }
            for (key, place) in &own.places {
                let shared = others.places.iter().find(|(_, theirs)| meet(place, theirs));
                if let Some((theirs, _)) = shared {
                    mistake(
                        format!("`{key}` is not apart from `{theirs}` of {other_file}"),
                        "chains share no directory and no key: put each file into a directory of its own, as \
                         `weighbridge init DIR` does",
                    );
                }
            }
            for (key, address) in &own.doors {
                let taken = others
                    .doors
                    .iter()
                    .find(|(_, theirs)| same(address, theirs));
                if let Some((theirs, _)) = taken {
                    mistake(
                        format!("`{key}` is {address}, as `{theirs}` of {other_file}"),
                        "give each chain addresses of its own; with port 0 the system chooses one",
                    );
                }
            }
        }
    }
    found
}

/// What a chain has for itself.
struct Own {
    /// Directories and files, where they really are.
    places: Vec<(&'static str, PathBuf)>,
    doors: Vec<(&'static str, SocketAddr)>,
}

impl Own {
    fn of(config: &HubConfig) -> Self {
        let hub = &config.hub;
        let mut places = vec![
            ("hub.data", &hub.data),
            ("hub.signing_key", &hub.signing_key),
            ("hub.sealing_key", &hub.sealing_key),
            ("http.credentials", &config.http.credentials),
            ("opcua_server.pki_dir", &config.opcua_server.pki_dir),
        ];
        let mut doors = vec![
            ("http.bind", config.http.bind),
            ("opcua_server.bind", config.opcua_server.bind),
        ];
        let archive = config.ledger.retention.archive.as_ref();
        places.extend(archive.map(|dir| ("ledger.retention.archive", dir)));
        if let Some(buffer) = &config.buffer {
            places.push(("buffer.dir", &buffer.dir));
        }
        if let Some(edges) = &config.edges {
            doors.push(("edges.bind", edges.bind));
        }
        if let Some(cluster) = &config.cluster {
            places.push(("cluster.network_key", &cluster.network_key));
            doors.push(("cluster.listen", cluster.listen));
            doors.push(("cluster.mesh", cluster.mesh));
        }
        let real = |(key, path): (&'static str, &PathBuf)| (key, real(path));
        Self {
            places: places.into_iter().map(real).collect(),
            doors,
        }
    }
}

/// Where a path leads, through links, as far as it is there already.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            return rest.components().fold(real, |mut path, part| {
                // What is not there yet is no link: above it is what is written before it.
                match part {
                    Component::ParentDir => {
                        path.pop();
                    }
                    part => path.push(part),
                }
                path
            });
        }
    }
    path
}

/// Whether one is the other, or inside it.
fn meet(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Whether only one of them can be listened at.
fn same(one: &SocketAddr, other: &SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (everywhere || one.ip() == other.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain in a directory of its own, with doors that the system chooses.
    fn chain(dir: &str, name: &str) -> HubConfig {
        let mut config = HubConfig::new("hub-1");
        config.resolve(Path::new(dir));
        config.ledger.chain = name.to_owned();
        config.http.bind.set_port(0);
        config.opcua_server.bind.set_port(0);
        config
    }

    fn said(one: &HubConfig, other: &HubConfig) -> Vec<String> {
        let files = [(Path::new("a.toml"), one), (Path::new("b.toml"), other)];
        let found = side_by_side(&files).into_iter();
        let mut said: Vec<_> = found
            .map(|d| {
                assert_eq!((&*d.file, d.severity), ("b.toml", Severity::Error));
                d.message
            })
            .collect();
        said.sort();
        said
    }

    #[test]
    fn chains_that_are_apart_may_run_side_by_side() {
        let (acme, bolt) = (
            chain("/plant/acme", "acme-1"),
            chain("/plant/bolt", "bolt-1"),
        );
        assert_eq!(said(&acme, &bolt), Vec::<String>::new());
        assert_eq!(side_by_side(&[(Path::new("a.toml"), &acme)]), Vec::new());
    }

    #[test]
    fn whatever_two_chains_share_is_named() {
        let acme = chain("/plant/acme", "acme-1");
        type Change = fn(&mut HubConfig);
        let cases: [(Change, &str); 9] = [
            (
                |c| c.ledger.chain = "acme-1".to_owned(),
                "the chain `acme-1` is that of a.toml as well",
            ),
            (
                |c| c.hub.data = "/plant/acme/data".into(),
                "`hub.data` is not apart from `hub.data` of a.toml",
            ),
            (
                |c| c.hub.data = "/plant/acme/data/inside".into(),
                "`hub.data` is not apart from `hub.data` of a.toml",
            ),
            (
                |c| c.hub.signing_key = "/plant/acme/../acme/keys/hub.key".into(),
                "`hub.signing_key` is not apart from `hub.signing_key` of a.toml",
            ),
            (
                |c| c.hub.sealing_key = "/plant/acme/data/sealing.key".into(),
                "`hub.sealing_key` is not apart from `hub.data` of a.toml",
            ),
            (
                |c| c.http.credentials = "/plant/acme/users".into(),
                "`http.credentials` is not apart from `http.credentials` of a.toml",
            ),
            (
                |c| c.opcua_server.pki_dir = "/plant/acme/pki".into(),
                "`opcua_server.pki_dir` is not apart from `opcua_server.pki_dir` of a.toml",
            ),
            (
                |c| c.http.bind.set_port(4840),
                "`http.bind` is 127.0.0.1:4840, as `opcua_server.bind` of a.toml",
            ),
            (
                |c| c.http.bind = "0.0.0.0:4840".parse().unwrap(),
                "`http.bind` is 0.0.0.0:4840, as `opcua_server.bind` of a.toml",
            ),
        ];
        let mut one = acme.clone();
        one.opcua_server.bind = "127.0.0.1:4840".parse().unwrap();
        for (change, message) in cases {
            let mut bolt = chain("/plant/bolt", "bolt-1");
            change(&mut bolt);
            assert_eq!(said(&one, &bolt), [message]);
        }
        let mut elsewhere = chain("/plant/bolt", "bolt-1");
        elsewhere.http.bind = "127.0.0.2:4840".parse().unwrap();
        assert_eq!(said(&one, &elsewhere), Vec::<String>::new());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_leads_to_what_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let [acme, bolt] = ["acme", "bolt"].map(|name| dir.path().join(name));
        std::fs::create_dir_all(acme.join("data")).unwrap();
        std::fs::create_dir(&bolt).unwrap();
        std::os::unix::fs::symlink(acme.join("data"), bolt.join("data")).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (acme, bolt) = (chain(&text(&acme), "acme-1"), chain(&text(&bolt), "bolt-1"));
        let linked = "`hub.data` is not apart from `hub.data` of a.toml";
        assert_eq!(said(&acme, &bolt), [linked]);
    }
}
