//! `weighbridge certs renew --all`: everything of the site's own that has expired or soon will, in one
//! command. Keys stay, so that nobody who knows them has to be told; but for OPC UA's own certificates,
//! which others trust one by one.

use super::Report;
use super::site::HUB_KEY;
use crate::crypto::authority::{self, Serial};
use crate::crypto::{Authority, Certificate, CertificateKind};
use crate::model::{Nanos, now, rfc3339};
use crate::protocols::opcua::pki::{self, Place};
use crate::store::{Issued, SiteCertificates, SiteError};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What became of one.
struct Renewed {
    name: String,
    path: PathBuf,
    /// Until when it is valid now, or why it could not be renewed.
    until: Result<Nanos, String>,
    /// What is left to do.
    next: &'static str,
}

/// Renews what expires within so many days. `false` beside the report when something could not be.
pub(super) fn all(dir: &Path, folders: &[PathBuf], within: i64) -> anyhow::Result<(Report, bool)> {
    let site = SiteCertificates::new(dir);
    let mut done = Vec::new();
    let issuer = match site.authority() {
        Ok(chain) => renew_authority(&site, &chain, within, &mut done)?,
        Err(SiteError::NoAuthority { .. }) => None,
        Err(other) => return Err(other.into()),
    };
    let (issued, _) = site.issued()?;
    for one in issued
        .iter()
        .filter(|i| i.certificate.days_left(now()) < within)
    {
        done.push(renew_issued(&site, dir, issuer.as_ref(), one));
    }
    for folder in folders {
        let (found, _) = pki::list(folder)?;
        let own = found.iter().find(|c| c.place == Place::Own);
        if own.is_some_and(|c| c.days_left(now()) < within) {
            done.push(renew_opcua(folder));
        }
    }
    let clean = done.iter().all(|r| r.until.is_ok());
    Ok((report(&done, within), clean))
}

/// The authority as it is afterwards, when its key is here.
fn renew_authority(
    site: &SiteCertificates,
    chain: &[Certificate],
    within: i64,
    done: &mut Vec<Renewed>,
) -> anyhow::Result<Option<Authority>> {
    let issuer = match site.issuer() {
        Ok(issuer) => Some(issuer),
        Err(SiteError::NoKey { .. }) => None,
        Err(other) => return Err(other.into()),
    };
    let Some(first) = chain.first().filter(|c| c.days_left(now()) < within) else {
        return Ok(issuer);
    };
    let renewed = match &issuer {
        Some(issuer) => issuer
            .renewed(now(), Serial::random())
            .map_err(|e| e.to_string()),
        None => Err(format!(
            "its key is not here; have {} renewed where it is, then replace the file",
            first.subject
        )),
    };
    let until = match renewed {
        Ok(renewed) => {
            let mut chain = chain.to_vec();
            if let Some(first) = chain.first_mut() {
                *first = renewed.clone();
            }
            site.put_authority(&chain)?;
            Ok(renewed.valid_until)
        }
        Err(reason) => Err(reason),
    };
    done.push(Renewed {
        name: "authority".into(),
        path: site.authority_file(),
        until,
        next: "give it to those who compare dates: browsers, other programs",
    });
    // With its new dates, so that what it issues may live as long.
    Ok(site.issuer().ok())
}

fn renew_issued(
    site: &SiteCertificates,
    dir: &Path,
    issuer: Option<&Authority>,
    old: &Issued,
) -> Renewed {
    let renewed = || -> Result<Nanos, String> {
        let Some(issuer) = issuer else {
            return Err(ask_elsewhere(site, dir, old));
        };
        let new = issuer.reissue(&old.certificate, now(), Serial::random());
        let new = new.map_err(|e| e.to_string())?;
        site.put(&old.name, &new).map_err(|e| e.to_string())?;
        Ok(new.valid_until)
    };
    Renewed {
        name: old.name.to_string(),
        path: old.path.clone(),
        until: renewed(),
        next: match old.name.kind {
            CertificateKind::Hub => "a running hub shows it to whoever connects from now on",
            _ => "copy it to where it is used; the key is the same",
        },
    }
}

/// A request for whoever has the authority's key.
fn ask_elsewhere(site: &SiteCertificates, dir: &Path, old: &Issued) -> String {
    let key = dir.join(HUB_KEY);
    if old.name.kind != CertificateKind::Hub || !key.is_file() {
        return "the authority's key is not here, and neither is its own; request it anew where its key is".into();
    }
    let request = authority::request(&old.name, &old.certificate.hosts, &key);
    let put = request
        .map_err(|e| e.to_string())
        .and_then(|pem| site.put_request(&old.name, &pem).map_err(|e| e.to_string()));
    match put {
        Ok(path) => format!(
            "the authority's key is not here; have {} signed, then `weighbridge certs install {} FILE`",
            path.display(),
            old.name
        ),
        Err(reason) => reason,
    }
}

fn renew_opcua(folder: &Path) -> Renewed {
    let renewed = pki::renew(folder);
    Renewed {
        name: "opc ua".into(),
        path: folder.join("own/cert.der"),
        until: renewed
            .map(|(_, new)| new.valid_until)
            .map_err(|e| e.to_string()),
        next: "its key is new: give it to everybody who trusted the old one; a running hub shows it now",
    }
}

fn report(done: &[Renewed], within: i64) -> Report {
    let mut text = String::new();
    for one in done {
        let path = one.path.display();
        text += &match &one.until {
            Ok(until) => {
                let (name, next) = (&one.name, one.next);
                format!(
                    "renewed: {name}, valid until {}\n  {path}: {next}\n",
                    rfc3339(*until)
                )
            }
            Err(reason) => format!("NOT renewed: {}\n  {path}: {reason}\n", one.name),
        };
    }
    if done.is_empty() {
        text = format!("nothing expires within {within} days\n");
    }
    let as_json = |one: &Renewed| {
        json!({
            "name": one.name,
            "file": one.path,
            "valid_until": one.until.as_ref().ok().map(|until| rfc3339(*until)),
            "error": one.until.as_ref().err(),
        })
    };
    Report {
        json: json!({ "renewed": done.iter().map(as_json).collect::<Vec<_>>() }),
        text,
    }
}
