//! Users and certificates as an administrator meets them.

use crate::support::{ended, failed, run, run_json, stderr};
use std::fs;
use std::path::{Path, PathBuf};
use weighbridge::access::{Attempt, Method, Refused, verify_login};
use weighbridge::crypto::authority::{Serial, Wanted, public_key_of};
use weighbridge::crypto::{
    Authorities, Authority, Certificate, CertificateKind, CertifiedName, authority,
};
use weighbridge::model::{Nanos, now};
use weighbridge::store::{CredentialFiles, SiteCertificates};

const DAY: Nanos = 86_400_000_000_000;

struct Plant {
    dir: tempfile::TempDir,
}

impl Plant {
    fn init(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plant = Self { dir };
        let output = run(&[&["init", &plant.text("plant")], options].concat());
        assert_eq!(ended(&output), 0, "{}", stderr(&output));
        plant
    }

    fn text(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("plant")
    }

    fn run(&self, args: &[&str]) -> std::process::Output {
        run(&[args, &["--config", &self.text("plant/hub.toml")]].concat())
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        run_json(&[args, &["--json", "--config", &self.text("plant/hub.toml")]].concat())
    }

    fn site(&self) -> SiteCertificates {
        SiteCertificates::new(&self.path())
    }

    fn users(&self) -> CredentialFiles {
        CredentialFiles::new(&self.path().join("users"))
    }

    fn trusted(&self) -> Authorities {
        Authorities::new(&self.site().authority().unwrap()).unwrap()
    }

    fn password(&self, text: &str) -> String {
        let file = self.text("password");
        fs::write(&file, format!("{text}\n")).unwrap();
        file
    }
}

fn hub() -> CertifiedName {
    CertifiedName {
        kind: CertificateKind::Hub,
        id: "hub-1".into(),
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_user_is_added_and_logs_in_with_password_and_code() {
    let plant = Plant::init(&[]);
    let file = plant.password("open sesame");
    assert_eq!(
        plant.json(&["user", "add", "ann", "--password-file", &file])["done"],
        "added"
    );
    assert_eq!(mode(&plant.path().join("users")), 0o700);
    assert_eq!(mode(&plant.path().join("users/ann.json")), 0o600);
    let login = |password: &str, code: Option<&str>| {
        let ann = plant.users().load("ann").unwrap();
        let password = password.as_bytes();
        verify_login(ann.as_ref(), &Attempt::Password { password, code }, now())
    };
    assert_eq!(login("open sesame", None).unwrap().method, Method::Password);

    let svg = plant.text("ann.svg");
    let made = plant.json(&["user", "totp", "ann", "--svg", &svg]);
    let uri = made["uri"].as_str().unwrap().to_owned();
    assert!(
        uri.starts_with("otpauth://totp/weighbridge:ann?secret="),
        "{uri}"
    );
    assert_eq!(mode(Path::new(&svg)), 0o600);
    assert_eq!(login("open sesame", None), Err(Refused::NoCode));
    let secret = plant
        .users()
        .load("ann")
        .unwrap()
        .unwrap()
        .totp
        .unwrap()
        .secret;
    let code = secret.shown(now());
    let proved = login("open sesame", Some(&code)).unwrap();
    assert!(plant.users().use_step("ann", proved.step.unwrap()).unwrap());
    assert_eq!(login("open sesame", Some(&code)), Err(Refused::Code));

    let file = plant.password("another one");
    plant.json(&["user", "passwd", "ann", "--password-file", &file]);
    plant.json(&["user", "totp", "ann", "--remove"]);
    assert_eq!(login("open sesame", None), Err(Refused::Password));
    assert!(login("another one", None).is_ok());
    let listed = plant.json(&["user", "list"]);
    assert_eq!(listed["users"][0]["name"], "ann");
    assert_eq!(listed["users"][0]["password"], true);
    let shown = plant.run(&["user", "list"]);
    let text =
        String::from_utf8(shown.stdout).unwrap() + &stderr(&plant.run(&["user", "add", "ann"]));
    assert!(
        text.contains("already") && !text.contains("argon2"),
        "{text}"
    );
    plant.json(&["user", "remove", "ann"]);
    assert_eq!(login("another one", None), Err(Refused::Unknown));
    for wrong in [
        &["user", "remove", "ann"][..],
        &["user", "totp", "ann"],
        &["user", "passwd", "ann", "--remove"],
        &["user", "add", "../ann", "--no-password"],
        &[
            "user",
            "add",
            "bob",
            "--password-file",
            &plant.password("short"),
        ],
    ] {
        failed(&plant.run(wrong));
    }
    assert_eq!(plant.users().names().unwrap(), [""; 0]);
}

#[test]
fn the_qr_code_in_the_terminal_comes_with_the_secret_to_type() {
    let plant = Plant::init(&[]);
    plant.json(&["user", "add", "ann", "--no-password"]);
    let output = plant.run(&["user", "totp", "ann", "--sha256"]);
    assert_eq!(ended(&output), 0, "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let secret = plant
        .users()
        .load("ann")
        .unwrap()
        .unwrap()
        .totp
        .unwrap()
        .secret;
    assert!(text.contains(secret.to_base32().as_str()));
    assert!(
        text.contains('▀') && text.contains("nobody has typed one yet"),
        "{text}"
    );
}

#[test]
fn a_user_logs_in_by_a_certificate_of_the_site() {
    let plant = Plant::init(&[]);
    plant.json(&["user", "add", "ann", "--no-password"]);
    let issued = plant.json(&["certs", "issue", "user", "ann"]);
    let file = issued["file"].as_str().unwrap();
    assert_eq!(mode(&plant.path().join("keys/user-ann.key")), 0o600);
    let certificate = weighbridge::store::site_certificates::read(Path::new(file)).unwrap();
    let chain: Vec<_> = certificate.iter().map(|c| c.der().to_vec()).collect();
    let authorities = plant.trusted();
    let login = || {
        let attempt = Attempt::Certificate {
            chain: &chain,
            authorities: Some(&authorities),
        };
        verify_login(plant.users().load("ann").unwrap().as_ref(), &attempt, now())
    };
    assert_eq!(login(), Err(Refused::Key));
    plant.json(&["user", "key", "ann", "--add", file]);
    assert_eq!(login().unwrap().method, Method::Certificate);
    let hash = certificate[0].key_hash().to_string();
    failed(&plant.run(&["user", "key", "ann", "--forget", "000"]));
    plant.json(&["user", "key", "ann", "--forget", &hash[..8]]);
    assert_eq!(login(), Err(Refused::Key));
    plant.json(&["user", "key", "ann", "--pin", file]);
    assert!(login().is_ok());
}

/// Issues what was good three years ago, in the place of what is there.
fn expire(plant: &Plant) -> (Certificate, Certificate) {
    let site = plant.site();
    let long_ago = now() - 4_000 * DAY;
    let old = site.issuer().unwrap();
    let authority = old.renewed(long_ago, Serial::random()).unwrap();
    site.put_authority(std::slice::from_ref(&authority))
        .unwrap();
    let wanted = Wanted {
        name: hub(),
        hosts: vec!["plant.example".into()],
        key: public_key_of(&plant.path().join("keys/https.key")).unwrap(),
        days: 731,
    };
    let leaf = site
        .issuer()
        .unwrap()
        .issue(&wanted, long_ago, Serial::random())
        .unwrap();
    site.put(&hub(), &leaf).unwrap();
    assert!(!authority.is_valid_at(now()) && !leaf.is_valid_at(now()));
    (authority, leaf)
}

#[test]
fn everything_has_expired_and_one_command_repairs_it() {
    let plant = Plant::init(&[]);
    let (authority, leaf) = expire(&plant);
    // It is said beforehand, and nothing can be issued.
    let checked = plant_check(&plant);
    assert!(
        checked.contains("authority") && checked.contains("certs renew --all"),
        "{checked}"
    );
    failed(&plant.run(&["certs", "issue", "user", "ann"]));
    let chain = [leaf.der().to_vec()];
    assert!(plant.trusted().check(&chain, now()).is_err());

    let renewed = plant.json(&["certs", "renew", "--all"]);
    let names: Vec<_> = renewed["renewed"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 2, "{renewed}");
    let new = plant.site().issued().unwrap().0.remove(0).certificate;
    assert!(plant.trusted().check(&[new.der().to_vec()], now()).is_ok());
    assert_eq!((new.key_hash(), &new.hosts), (leaf.key_hash(), &leaf.hosts));
    let root = plant.site().authority().unwrap().remove(0);
    assert_eq!(
        (root.key_hash(), &root.subject),
        (authority.key_hash(), &authority.subject)
    );
    assert!(!plant_check(&plant).contains("expired"));
    let again = plant.json(&["certs", "renew", "--all"]);
    assert_eq!(again["renewed"].as_array().unwrap().len(), 0);

    // OPC UA's own certificate as well, when its time comes.
    let before = fs::read(plant.path().join("pki/opcua/own/cert.der")).unwrap();
    let all = plant.json(&["certs", "renew", "--all", "--within", "36500"]);
    assert_eq!(all["renewed"].as_array().unwrap().len(), 3, "{all}");
    assert_ne!(
        fs::read(plant.path().join("pki/opcua/own/cert.der")).unwrap(),
        before
    );
}

fn plant_check(plant: &Plant) -> String {
    let output = run(&["check", &plant.text("plant/hub.toml")]);
    String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output)
}

#[test]
fn a_corporate_authority_signs_what_is_requested() {
    let elsewhere = tempfile::tempdir().unwrap();
    let (key, root) = Authority::make("corp", now(), Serial::random()).unwrap();
    let corp = Authority::new(root.clone(), &key).unwrap();
    let ca = elsewhere.path().join("corp.pem");
    fs::write(&ca, root.to_pem()).unwrap();
    let plant = Plant::init(&["--ca", ca.to_str().unwrap()]);
    assert!(!plant.site().authority_key().exists());
    let request = fs::read_to_string(plant.site().request_file(&hub())).unwrap();
    let (hosts, key) = authority::read_request(&request).unwrap();
    assert!(hosts.contains(&"localhost".to_owned()));
    let days = 10;
    let wanted = |key, days| Wanted {
        name: hub(),
        hosts: vec![],
        key,
        days,
    };
    let signed = corp
        .issue(&wanted(key, days), now(), Serial::random())
        .unwrap();
    let file = elsewhere.path().join("signed.pem");
    fs::write(&file, signed.to_pem()).unwrap();
    let file = file.to_str().unwrap();
    plant.json(&["certs", "install", "hub", "hub-1", file]);
    assert_eq!(plant.site().issued().unwrap().0[0].certificate, signed);
    assert!(!plant.site().request_file(&hub()).exists());
    // What is for another key, or by another authority, is refused.
    let other = public_key_of(&plant.path().join("keys/hub.key")).unwrap();
    let other = corp
        .issue(&wanted(other, 10), now(), Serial::random())
        .unwrap();
    fs::write(file, other.to_pem()).unwrap();
    assert!(stderr(&plant.run(&["certs", "install", "hub", "hub-1", file])).contains("https.key"));
    let (key, stranger) = Authority::make("eve", now(), Serial::random()).unwrap();
    let eve = Authority::new(stranger, &key).unwrap();
    let by_eve = eve.issue(&wanted(signed.key().to_vec(), 10), now(), Serial::random());
    fs::write(file, by_eve.unwrap().to_pem()).unwrap();
    assert!(stderr(&plant.run(&["certs", "install", "hub", "hub-1", file])).contains("authority"));

    // It cannot be renewed here: a new request lies ready, and the command says so.
    let output = plant.run(&["certs", "renew", "--all"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("NOT renewed: hub hub-1"), "{text}");
    assert!(plant.site().request_file(&hub()).is_file());
    failed(&plant.run(&["certs", "issue", "user", "ann"]));
}

#[test]
fn a_corporate_authority_whose_key_is_given_issues() {
    let elsewhere = tempfile::tempdir().unwrap();
    let (key, root) = Authority::make("corp", now(), Serial::random()).unwrap();
    let (ca, ca_key) = (
        elsewhere.path().join("ca.pem"),
        elsewhere.path().join("ca.key"),
    );
    fs::write(&ca, root.to_pem()).unwrap();
    authority::save_key(&ca_key, &key).unwrap();
    let (ca, ca_key) = (ca.to_str().unwrap(), ca_key.to_str().unwrap());
    let plant = Plant::init(&["--ca", ca, "--ca-key", ca_key]);
    assert_eq!(plant.site().authority().unwrap(), [root]);
    let made = plant.site().issued().unwrap().0.remove(0).certificate;
    assert!(plant.trusted().check(&[made.der().to_vec()], now()).is_ok());

    // Of a key that is another's, nothing is made.
    let (other, _) = Authority::make("x", now(), Serial::random()).unwrap();
    fs::remove_file(ca_key).unwrap();
    authority::save_key(Path::new(ca_key), &other).unwrap();
    let second = plant.text("second");
    failed(&run(&["init", &second, "--ca", ca, "--ca-key", ca_key]));
    assert!(!Path::new(&second).join("hub.toml").exists());
    assert!(!Path::new(&second).join("pki").exists());
}

#[test]
fn an_old_site_gets_its_authority_later() {
    let plant = Plant::init(&[]);
    fs::remove_file(plant.site().authority_key()).unwrap();
    fs::remove_file(plant.site().authority_file()).unwrap();
    fs::remove_dir_all(plant.path().join("pki/issued")).unwrap();
    fs::remove_file(plant.path().join("keys/https.key")).unwrap();
    assert!(stderr(&plant.run(&["certs", "issue", "user", "ann"])).contains("certs authority"));
    plant.json(&["certs", "authority", "--id", "hub-7"]);
    let listed = plant.json(&["certs", "list"]);
    let names = |json: &serde_json::Value| json["site"]["certificates"][1]["name"].clone();
    assert_eq!(names(&listed), "hub hub-7");
    // A second time changes nothing.
    let before = fs::read(plant.site().authority_file()).unwrap();
    failed(&plant.run(&["certs", "authority"]));
    assert_eq!(fs::read(plant.site().authority_file()).unwrap(), before);
}
