//! `weighbridge user adopt`: the users that the OPC UA server had of its own become users of the hub.

use super::Done;
use crate::access::{Credentials, user_name};
use crate::config;
use crate::crypto::{Certificate, PasswordHash};
use crate::protocols::opcua::server::UserConfig;
use crate::store::{CredentialFiles, site_certificates};
use anyhow::{Context, bail};
use serde_json::json;
use std::path::Path;
use zeroize::Zeroizing;

/// What became of one of them.
struct Adopted {
    name: String,
    /// `None`: adopted; else why not.
    left: Option<String>,
}

pub(super) fn run(file: &Path, files: &CredentialFiles) -> anyhow::Result<Done> {
    let loaded = config::load(file).map_err(|found| {
        let errors = found
            .iter()
            .filter(|d| d.severity == config::Severity::Error);
        let first = errors.map(|d| d.message.clone()).next().unwrap_or_default();
        anyhow::anyhow!(
            "the configuration is wrong: {first}; `weighbridge check {}` shows where",
            file.display()
        )
    })?;
    let server = &loaded.config.opcua_server;
    let certificates = match &server.user_certificates {
        Some(folder) => certificates(folder)?,
        None => Vec::new(),
    };
    let own = server.users.iter();
    let own = own.filter(|user| user.certificate || user.password_file.is_some());
    let mut all = Vec::new();
    for user in own {
        let left = match adopt(user, &certificates, files) {
            Ok(()) => None,
            Err(why) => Some(format!("{why:#}")),
        };
        let name = user.name.clone();
        all.push(Adopted { name, left });
    }
    if all.is_empty() {
        bail!(
            "the OPC UA server has no users of its own in {}",
            file.display()
        );
    }
    let named: Vec<_> = server.users.iter().filter(|u| u.certificate).collect();
    let unnamed = certificates
        .iter()
        .filter(|c| named.iter().all(|u| u.name != c.common_name));
    for certificate in unnamed {
        all.push(Adopted {
            name: certificate.common_name.clone(),
            left: Some("no [[opcua_server.users]] names it, so nobody knows its roles".to_owned()),
        });
    }
    Ok(told(&all))
}

fn told(all: &[Adopted]) -> Done {
    let mut text = String::new();
    for Adopted { name, left } in all {
        match left {
            None => text.push_str(&format!("adopted: {name}\n")),
            Some(why) => text.push_str(&format!("left: {name}: {why}\n")),
        }
    }
    text.push_str(
        "\nNext, in the configuration:\n  \
         [opcua_server]\n  log_in = true                  # and no user_certificates\n\n  \
         [[opcua_server.users]]         # one for each, with name and roles only\n\
         Then restart the hub. The password files are used no more: remove them.\n",
    );
    let listed = |is: fn(&Option<String>) -> bool| -> Vec<&str> {
        let those = all.iter().filter(|a| is(&a.left));
        those.map(|a| a.name.as_str()).collect()
    };
    Done {
        json: json!({
            "done": "adopted",
            "adopted": listed(Option::is_none),
            "left": listed(Option::is_some),
        }),
        text,
    }
}

fn adopt(
    user: &UserConfig,
    certificates: &[Certificate],
    files: &CredentialFiles,
) -> anyhow::Result<()> {
    user_name(&user.name)?;
    let mut credentials = Credentials::new(&user.name)?;
    if let Some(path) = &user.password_file {
        if files
            .load(&user.name)?
            .is_some_and(|known| known.password.is_some())
        {
            bail!("there is a user of this name already, whose password stays");
        }
        let text = Zeroizing::new(
            std::fs::read_to_string(path)
                .with_context(|| format!("{} cannot be read", path.display()))?,
        );
        let line = text.lines().next().unwrap_or_default();
        let hash = match PasswordHash::parse(line) {
            Ok(hash) => hash,
            Err(_) => {
                credentials.check_new_password(line)?;
                PasswordHash::new(line.as_bytes())?
            }
        };
        credentials.password = Some(hash);
    }
    let mut own = certificates
        .iter()
        .filter(|c| user.certificate && c.common_name == user.name);
    if let Some(certificate) = own.next() {
        if own.next().is_some() {
            bail!("several certificates have this common name; `weighbridge user key` takes one");
        }
        files.keep_certificate(certificate)?;
        credentials.pin(certificate.fingerprint())?;
    } else if user.certificate {
        bail!("there is no certificate of this common name in user_certificates");
    }
    match files.load(&user.name)? {
        None => Ok(files.add(&credentials)?),
        Some(_) => files.change(&user.name, |known| -> anyhow::Result<()> {
            for hash in credentials.certificates() {
                known.pin(*hash)?;
            }
            known.password = known.password.take().or(credentials.password.take());
            Ok(())
        }),
    }
}

fn certificates(folder: &Path) -> anyhow::Result<Vec<Certificate>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "der") {
            found.extend(site_certificates::read(&path)?.into_iter().next());
        }
    }
    Ok(found)
}
