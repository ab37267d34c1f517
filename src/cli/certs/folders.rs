//! Which certificate folders there are.

use super::SOON;
use crate::config::{self, Diagnostic, HubConfig, Severity};
use crate::model::now;
use crate::protocols::opcua::{Policy, pki};
use crate::store::SiteCertificates;
use anyhow::{Context, bail};
use clap::Args;
use std::path::{Path, PathBuf};

/// Where to look.
#[derive(Debug, Args)]
pub(super) struct Folders {
    /// A certificate folder
    #[arg(long, value_name = "DIR", global = true)]
    pki: Vec<PathBuf>,
    /// A configuration, whose folders are meant when no --pki is given
    #[arg(long, value_name = "FILE", default_value = "hub.toml", global = true)]
    config: PathBuf,
}

impl Folders {
    /// The directory of the site: that of the configuration.
    pub(super) fn site(&self) -> &Path {
        match self.config.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        }
    }

    /// Whether the folders are those of the configuration.
    pub(super) fn are_configured(&self) -> bool {
        self.pki.is_empty()
    }

    pub(super) fn find(&self) -> anyhow::Result<Vec<PathBuf>> {
        if !self.pki.is_empty() {
            if let Some(folder) = self.pki.iter().find(|folder| !folder.is_dir()) {
                bail!("there is no folder {}", folder.display());
            }
            return Ok(self.pki.clone());
        }
        let loaded = config::load(&self.config).map_err(|found| {
            let first = found.first().map(|d| d.message.clone()).unwrap_or_default();
            anyhow::anyhow!("{first}")
        });
        let loaded = loaded.with_context(|| {
            let file = self.config.display();
            format!("{file} does not say which folders there are; give --pki DIR or --config FILE")
        })?;
        Ok(of(&loaded.config))
    }
}

/// The certificate folders of a configuration, each once.
fn of(config: &HubConfig) -> Vec<PathBuf> {
    let mut folders = vec![config.opcua_server.pki_dir.clone()];
    let opcua = config.devices.iter().filter_map(|d| d.opcua.as_ref());
    let secured = opcua.filter(|o| o.security_policy != Policy::None);
    folders.extend(secured.map(|o| o.pki_dir.clone()));
    let mut seen = std::collections::HashSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// Warnings of certificates that expire soon or have expired, for `weighbridge check`.
pub(in crate::cli) fn expiring(file: &Path, config: &HubConfig) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for folder in of(config) {
        let Ok((found, _)) = pki::list(&folder) else {
            continue;
        };
        let let_in = found.iter().filter(|c| c.place != pki::Place::Rejected);
        for certificate in let_in {
            let days = certificate.days_left(now());
            if days >= SOON {
                continue;
            }
            let when = when(days);
            let message = format!(
                "the {} certificate {} ({}) {when}",
                certificate.place.name(),
                certificate.thumbprint.get(..8).unwrap_or_default(),
                certificate.subject,
            );
            let name = file.display().to_string();
            let mut warning = Diagnostic::new(Severity::Warning, &name, message);
            let folder = folder.display();
            warning.help.push(match certificate.place {
                pki::Place::Own => {
                    format!("`weighbridge certs renew --pki {folder}` makes a new one, for others to trust")
                }
                _ => format!(
                    "have it renewed at the other side, then `weighbridge certs list --pki {folder}`"
                ),
            });
            warnings.push(warning);
        }
    }
    warnings.extend(site_expiring(file));
    warnings
}

fn when(days: i64) -> String {
    match days {
        ..0 => "has expired".to_owned(),
        0 => "expires today".to_owned(),
        days => format!("expires in {days} days"),
    }
}

/// Warnings of the site's authority, and of what it issued.
fn site_expiring(file: &Path) -> Vec<Diagnostic> {
    let site = SiteCertificates::new(file.parent().unwrap_or(Path::new("")));
    let authority = site.authority().unwrap_or_default().into_iter();
    let issued = site.issued().map(|(issued, _)| issued).unwrap_or_default();
    let all = authority.map(|c| ("authority".to_owned(), c)).chain(
        issued
            .into_iter()
            .map(|i| (i.name.to_string(), i.certificate)),
    );
    let soon = all.filter(|(_, c)| c.days_left(now()) < SOON);
    let name = file.display().to_string();
    soon.map(|(what, certificate)| {
        let when = when(certificate.days_left(now()));
        let message = format!("the certificate of {what} ({}) {when}", certificate.subject);
        let mut warning = Diagnostic::new(Severity::Warning, &name, message);
        warning.help.push(format!(
            "`weighbridge certs renew --all --config {name}` renews all that expire"
        ));
        warning
    })
    .collect()
}
