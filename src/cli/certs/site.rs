//! The site's authority and what it issues.

use super::Report;
use crate::cli::output::{self, Align, Style};
use crate::crypto::authority::{
    self, AUTHORITY_DAYS, Serial, Wanted, can_name, new_key, public_key_of, save_key,
};
use crate::crypto::{Authority, Certificate, CertificateKind, CertifiedName};
use crate::model::{now, rfc3339};
use crate::protocols::opcua::pki;
use crate::store::{SiteCertificates, SiteError, site_certificates};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value as Json, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The key of the hub's HTTPS face, and of what else it shows a certificate at.
pub(in crate::cli) const HUB_KEY: &str = "keys/https.key";

/// Another authority than one made here.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct CorporateArgs {
    /// An authority's certificate that is there already (PEM); those above it may follow in the file
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) ca: Option<PathBuf>,
    /// Its key (PKCS#8 PEM, mode 0600), which is copied; without it requests are made for it to sign
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub(in crate::cli) ca_key: Option<PathBuf>,
}

/// What a certificate is for.
#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// What it is: hub, edge, device, user or key-centre
    #[arg(value_parser = kind)]
    kind: CertificateKind,
    /// Its id
    name: String,
}

impl NameArgs {
    fn certified(&self) -> CertifiedName {
        CertifiedName {
            kind: self.kind,
            id: self.name.clone(),
        }
    }
}

fn kind(text: &str) -> Result<CertificateKind, String> {
    CertificateKind::named(text).ok_or_else(|| {
        let names = CertificateKind::ALL.map(CertificateKind::name);
        format!("expected one of {}", names.join(", "))
    })
}

#[derive(Debug, Args)]
pub(super) struct IssueArgs {
    #[command(flatten)]
    name: NameArgs,
    /// A host name or address under which it is reached; several are possible
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Days that it lives: 731, or 366 for users, unless said
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=i64::from(AUTHORITY_DAYS)))]
    days: Option<u32>,
    /// A request (PKCS#10 PEM) by the owner of the key, which then stays with them
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    request: Option<PathBuf>,
    /// The private key's file, made if it is not there
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RequestArgs {
    #[command(flatten)]
    name: NameArgs,
    /// A host name or address under which it is reached; several are possible
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// The private key's file, made if it is not there
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct InstallArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The certificate that was signed elsewhere
    file: PathBuf,
}

/// Makes the authority of a site that has none, or takes a corporate one; and the hub's certificate, or
/// a request for it. What was made, and what it is for.
pub(in crate::cli) fn establish(
    dir: &Path,
    hub: &str,
    corporate: &CorporateArgs,
) -> anyhow::Result<Vec<(PathBuf, &'static str)>> {
    let site = SiteCertificates::new(dir);
    let (certificate, key) = (site.authority_file(), site.authority_key());
    if let Some(there) = [&certificate, &key]
        .into_iter()
        .find(|f| f.symlink_metadata().is_ok())
    {
        bail!(
            "{} is already there, and nothing is overwritten",
            there.display()
        );
    }
    // All of it is looked at before anything is written.
    let (chain, secret) = match (&corporate.ca, &corporate.ca_key) {
        (None, _) => {
            let (secret, made) = Authority::make(hub, now(), Serial::random())?;
            (vec![made], Some(secret))
        }
        (Some(file), None) => {
            let chain = site_certificates::read(file)?;
            if let Some(wrong) = chain.iter().find(|c| !c.is_authority) {
                bail!(
                    "{} is not the certificate of an authority (CA:TRUE)",
                    wrong.subject
                );
            }
            (chain, None)
        }
        (Some(file), Some(key)) => {
            let chain = site_certificates::read(file)?;
            let first = chain.first().context("there is no certificate in it")?;
            let secret = authority::read_key(key)?;
            Authority::new(first.clone(), &secret)?;
            (chain, Some(secret))
        }
    };
    let mut made = Vec::new();
    if let Some(secret) = &secret {
        save_key(&key, secret)?;
        made.push((
            key,
            "signs certificates; keep it secret, and a backup of it",
        ));
    }
    site.put_authority(&chain)?;
    made.push((certificate, "the site's authority, for those who connect"));
    let name = CertifiedName {
        kind: CertificateKind::Hub,
        id: hub.to_owned(),
    };
    let (hosts, key) = (hub_hosts(), dir.join(HUB_KEY));
    make_key(&key)?;
    made.push((key.clone(), "the hub's key for TLS; keep it secret"));
    let (path, what) = match &secret {
        Some(_) => {
            let wanted = Wanted {
                days: name.kind.days(),
                name: name.clone(),
                hosts,
                key: public_key_of(&key)?,
            };
            let issued = site.issuer()?.issue(&wanted, now(), Serial::random())?;
            (site.put(&name, &issued)?, "the hub's certificate for TLS")
        }
        None => {
            let request = authority::request(&name, &hosts, &key)?;
            let path = site.put_request(&name, &request)?;
            (
                path,
                "the request for its certificate: have it signed, then `weighbridge certs install`",
            )
        }
    };
    made.push((path, what));
    Ok(made)
}

/// Names by which a hub is reached from its own machine, and the machine's own.
fn hub_hosts() -> Vec<String> {
    let mut hosts = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    let own = pki::host_name();
    if can_name(&own) && !hosts.contains(&own) {
        hosts.push(own);
    }
    hosts
}

fn make_key(path: &Path) -> anyhow::Result<()> {
    if path.symlink_metadata().is_err() {
        save_key(path, &new_key()?)?;
    }
    Ok(())
}

pub(super) fn authority(
    site: &Path,
    hub: &str,
    corporate: &CorporateArgs,
) -> anyhow::Result<Report> {
    let made = establish(site, hub, corporate)?;
    let lines = made
        .iter()
        .map(|(path, what)| format!("  {}  {what}\n", path.display()));
    let text = format!("the authority of {hub}\n{}", lines.collect::<String>());
    let files: Vec<_> = made.iter().map(|(path, _)| path).collect();
    Ok(Report {
        json: json!({ "hub": hub, "files": files }),
        text,
    })
}

/// The key's file that is meant when none is said.
fn key_file(site: &Path, given: Option<&PathBuf>, name: &CertifiedName) -> PathBuf {
    match (given, name.kind) {
        (Some(given), _) => given.clone(),
        (None, CertificateKind::Hub) => site.join(HUB_KEY),
        (None, kind) => site
            .join("keys")
            .join(format!("{}-{}.key", kind.name(), name.id)),
    }
}

pub(super) fn issue(dir: &Path, args: &IssueArgs) -> anyhow::Result<Report> {
    let site = SiteCertificates::new(dir);
    let (issuer, name) = (site.issuer()?, args.name.certified());
    let mut hosts = args.host.clone();
    let mut key_line = String::new();
    let key = match &args.request {
        Some(file) => {
            let text = fs::read_to_string(file)
                .with_context(|| format!("the request {} cannot be read", file.display()))?;
            let (asked, key) = authority::read_request(&text)?;
            // Whoever issues has the last word.
            if hosts.is_empty() {
                hosts = asked;
            }
            key
        }
        None => {
            let file = key_file(dir, args.key.as_ref(), &name);
            make_key(&file)?;
            key_line = format!("  {}  its private key; keep it secret\n", file.display());
            public_key_of(&file)?
        }
    };
    if hosts.is_empty() && name.kind == CertificateKind::Hub {
        hosts = hub_hosts();
    }
    let wanted = Wanted {
        days: args.days.unwrap_or(name.kind.days()),
        name: name.clone(),
        hosts,
        key,
    };
    let made = issuer.issue(&wanted, now(), Serial::random())?;
    let path = site.put(&name, &made)?;
    let mut text = format!(
        "issued: {name}, valid until {}\n  {}  its certificate\n{key_line}",
        rfc3339(made.valid_until),
        path.display(),
    );
    if name.kind == CertificateKind::User {
        text += &format!(
            "\nNext:\n  weighbridge user key {} --add {}\n",
            name.id,
            path.display()
        );
    }
    Ok(Report {
        json: as_json(&name.to_string(), &path, &made),
        text,
    })
}

pub(super) fn request(dir: &Path, args: &RequestArgs) -> anyhow::Result<Report> {
    let site = SiteCertificates::new(dir);
    let name = args.name.certified();
    let file = key_file(dir, args.key.as_ref(), &name);
    let hosts = match (args.host.is_empty(), name.kind) {
        (true, CertificateKind::Hub) => hub_hosts(),
        _ => args.host.clone(),
    };
    make_key(&file)?;
    let pem = authority::request(&name, &hosts, &file)?;
    let path = site.put_request(&name, &pem)?;
    Ok(Report {
        json: json!({ "name": name.to_string(), "request": path, "key": file }),
        text: format!(
            "requested: {name}\n  {}  have it signed, then `weighbridge certs install {name} FILE`\n",
            path.display()
        ),
    })
}

pub(super) fn install(dir: &Path, args: &InstallArgs) -> anyhow::Result<Report> {
    let site = SiteCertificates::new(dir);
    let name = args.name.certified();
    let found = site_certificates::read(&args.file)?;
    let signed = found
        .into_iter()
        .next()
        .context("there is no certificate in it")?;
    let authorities = site.authority()?;
    if !authorities.iter().any(|a| a.subject == signed.issuer) {
        bail!(
            "{} was issued by {}, which is not the site's authority",
            signed.subject,
            signed.issuer
        );
    }
    // The hub shows it with this key, so a certificate for another would only fail later.
    let key = dir.join(HUB_KEY);
    if name.kind == CertificateKind::Hub && key.is_file() && public_key_of(&key)? != signed.key() {
        bail!("the certificate is not for the key in {}", key.display());
    }
    let path = site.put(&name, &signed)?;
    let _ = fs::remove_file(site.request_file(&name));
    Ok(Report {
        json: as_json(&name.to_string(), &path, &signed),
        text: format!(
            "installed: {name}, valid until {}\n",
            rfc3339(signed.valid_until)
        ),
    })
}

/// Everything of a site: who vouches, and for whom.
pub(super) fn list(dir: &Path, style: Style) -> anyhow::Result<Option<Report>> {
    let site = SiteCertificates::new(dir);
    let chain = match site.authority() {
        Ok(chain) => chain,
        Err(SiteError::NoAuthority { .. }) => return Ok(None),
        Err(other) => return Err(other.into()),
    };
    let (issued, strange) = site.issued()?;
    let authority = site.authority_file();
    let mut all: Vec<_> = chain
        .iter()
        .map(|c| ("authority".to_owned(), &authority, c))
        .collect();
    all.extend(
        issued
            .iter()
            .map(|i| (i.name.to_string(), &i.path, &i.certificate)),
    );
    let headings = ["", "subject", "hosts", "valid until"].map(|h| (h, Align::Left));
    let row = |(name, _, c): &(String, &PathBuf, &Certificate)| {
        let until = format!(
            "{}{}",
            super::date(c.valid_until),
            super::validity(c.days_left(now()))
        );
        vec![name.clone(), c.subject.clone(), c.hosts.join(" "), until]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let mut text = format!("{}\n", style.bold(&dir.join("pki").display().to_string()));
    text += &output::table(style, &headings, &rows);
    for path in &strange {
        text += &format!("{} is no certificate\n", path.display());
    }
    let json: Vec<_> = all
        .iter()
        .map(|(name, path, c)| as_json(name, path, c))
        .collect();
    Ok(Some(Report {
        json: json!({ "certificates": json, "no_certificates": strange }),
        text: text + "\n",
    }))
}

pub(super) fn as_json(name: &str, path: &Path, c: &Certificate) -> Json {
    json!({
        "name": name,
        "file": path,
        "subject": c.subject,
        "issuer": c.issuer,
        "serial": c.serial,
        "hosts": c.hosts,
        "valid_from": rfc3339(c.valid_from),
        "valid_until": rfc3339(c.valid_until),
        "days_left": c.days_left(now()),
        "fingerprint": c.fingerprint(),
        "key_hash": c.key_hash(),
    })
}
