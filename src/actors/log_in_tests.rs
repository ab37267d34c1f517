//! The desk, as faces meet it.

use super::*;
use crate::access::Totp;
use crate::crypto::authority::{Serial, Wanted, public_key_of, save_key};
use crate::crypto::{Authority, CertifiedName, TotpHash, TotpSecret, authority};
use crate::store::credentials::CredentialStoreError;
use std::path::Path;
use weighbridge_verifier::sha256;
use zeroize::Zeroizing;

const PASSWORD: &str = "open sesame";

fn at(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

struct Site {
    dir: tempfile::TempDir,
    desk: LogInDesk,
}

fn secret() -> TotpSecret {
    TotpSecret::from_bytes(b"12345678901234567890", TotpHash::Sha1).unwrap()
}

/// `ann` has a password and a code, `bob` a password.
impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = CredentialFiles::new(&dir.path().join("users"));
        let hash = PasswordHash::with_salt(PASSWORD.as_bytes(), &[7; 16]).unwrap();
        for name in ["ann", "bob", "kim"] {
            let mut user = Credentials::new(name).unwrap();
            user.password = (name != "kim").then(|| hash.clone());
            let (secret, last_step) = (secret(), None);
            user.totp = (name == "ann").then_some(Totp { secret, last_step });
            files.add(&user).unwrap();
        }
        let authority = dir.path().join("pki/authority.crt");
        let desk = LogInDesk::new("hub-1", files, Some(authority));
        Self { dir, desk }
    }

    fn files(&self) -> &CredentialFiles {
        &self.desk.known.as_ref().unwrap().files
    }

    async fn ask(
        &self,
        face: &'static str,
        user: &str,
        field: &str,
        from: u8,
    ) -> Result<Proved, NotIn> {
        let proof = Proof::OneField(Zeroizing::new(field.to_owned()));
        self.desk.log_in(face, Some(user), proof, at(from)).await
    }

    /// An authority, and what it issues for whom, with the key that it is for.
    fn authority(&self) -> Authority {
        let (key, certificate) = Authority::make("Plant", now(), Serial::random()).unwrap();
        let pem = certificate.to_pem();
        std::fs::create_dir_all(self.dir.path().join("pki")).unwrap();
        std::fs::write(self.dir.path().join("pki/authority.crt"), pem).unwrap();
        Authority::new(certificate, &key).unwrap()
    }

    fn issue(&self, authority: &Authority, kind: CertificateKind, id: &str) -> Certificate {
        let file = self.dir.path().join(format!("{}-{id}.key", kind.name()));
        save_key(&file, &authority::new_key().unwrap()).unwrap();
        let wanted = Wanted {
            name: CertifiedName {
                kind,
                id: id.to_owned(),
            },
            hosts: Vec::new(),
            key: public_key_of(Path::new(&file)).unwrap(),
            days: 1,
        };
        authority.issue(&wanted, now(), Serial::random()).unwrap()
    }

    async fn show(&self, user: Option<&str>, shown: &Certificate) -> Result<String, NotIn> {
        let proof = Proof::Certificate(vec![shown.der().to_vec()]);
        // From somewhere else each time, so that nobody waits.
        let [from, ..] = shown.fingerprint().0;
        let proved = self.desk.log_in("https", user, proof, at(from)).await;
        proved.map(|proved| proved.user)
    }
}

#[tokio::test]
async fn a_code_in_the_password_field_counts_once_at_all_faces() {
    let site = Site::new();
    let code = secret().shown(now());
    let field = format!("{PASSWORD} {}", *code);
    assert_eq!(
        site.ask("opc.tcp", "ann", PASSWORD, 1).await,
        Err(NotIn::Refused)
    );
    let proved = site.ask("opc.tcp", "ann", &field, 1).await.unwrap();
    assert_eq!(
        (proved.user.as_str(), proved.method),
        ("ann", Method::PasswordAndCode)
    );
    assert_eq!(
        site.ask("opc.tcp", "ann", &field, 1).await,
        Err(NotIn::Refused)
    );
    let password = Zeroizing::new(PASSWORD.to_owned());
    let other_face = Proof::Password(password, Some(code.to_string()));
    let again = site
        .desk
        .log_in("http", Some("ann"), other_face, at(2))
        .await;
    assert_eq!(again, Err(NotIn::Refused), "a code counts once");
    // Without codes the whole field is the password.
    assert!(site.ask("opc.tcp", "bob", PASSWORD, 3).await.is_ok());
    assert_eq!(
        site.ask("opc.tcp", "bob", &field, 3).await,
        Err(NotIn::Refused)
    );
}

#[tokio::test]
async fn the_password_that_was_right_is_told_from_the_one_after_it() {
    let site = Site::new();
    let proved = site.ask("opc.tcp", "bob", PASSWORD, 1).await.unwrap();
    let mark = proved.password.unwrap();
    assert!(site.desk.has_password("bob", &mark).await);
    // The same word under another salt is another password: it was set anew.
    let anew = PasswordHash::with_salt(PASSWORD.as_bytes(), &[8; 16]).unwrap();
    let set = |bob: &mut Credentials| {
        bob.password = Some(anew);
        Ok::<_, CredentialStoreError>(())
    };
    site.files().change("bob", set).unwrap();
    assert!(!site.desk.has_password("bob", &mark).await);
    let kims = site.desk.has_password("kim", &mark).await;
    let nobodys = site.desk.has_password("nobody", &mark).await;
    assert!(!kims && !nobodys);
}

#[tokio::test]
async fn who_guesses_at_one_face_waits_at_all() {
    let mut site = Site::new();
    // So long that no test waits it out, however slow its machine is.
    let long = 1_000_000_000_000_000;
    site.desk.guard = Mutex::new(LoginGuard::new(GuardLimits {
        first: long,
        cap: long,
        forget: 2 * long,
        ..GuardLimits::default()
    }));
    let faces = ["opc.tcp", "http", "mqtt", "opc.tcp"];
    for (face, from) in faces.into_iter().zip(1..) {
        assert_eq!(
            site.ask(face, "bob", "wrong", from).await,
            Err(NotIn::Refused)
        );
    }
    for face in ["http", "opc.tcp"] {
        let slowed = site.ask(face, "bob", PASSWORD, 9).await;
        assert!(
            matches!(slowed, Err(NotIn::TooEarly(_))),
            "{face}: {slowed:?}"
        );
    }
    // Passwords that a face has of its own are guessed no faster.
    let own = || {
        Some(Box::new(
            PasswordHash::with_salt(b"mine", &[1; 16]).unwrap(),
        ))
    };
    let ask = async |password: &str, hash| {
        let proof = Proof::Own(Zeroizing::new(password.to_owned()), hash);
        site.desk
            .log_in("opc.tcp", Some("own"), proof, at(50))
            .await
    };
    assert_eq!(ask("mine", own()).await.unwrap().user, "own");
    for hash in [own(), None, own(), None] {
        assert_eq!(ask("wrong", hash).await, Err(NotIn::Refused));
    }
    assert!(matches!(ask("mine", own()).await, Err(NotIn::TooEarly(_))));
}

#[tokio::test]
async fn a_certificate_is_its_owners() {
    let site = Site::new();
    let authority = site.authority();
    let bind = |user: &str, change: &dyn Fn(&mut Credentials)| {
        let changed = site.files().change(
            user,
            |c| -> Result<(), crate::store::CredentialStoreError> {
                change(c);
                Ok(())
            },
        );
        changed.unwrap();
    };
    let kim = site.issue(&authority, CertificateKind::User, "kim");
    assert_eq!(
        site.show(None, &kim).await,
        Err(NotIn::Refused),
        "the key is not bound"
    );
    bind("kim", &|c| c.add_key(kim.key_hash()).unwrap());
    assert_eq!(site.show(None, &kim).await.as_deref(), Ok("kim"));
    assert_eq!(site.show(Some("bob"), &kim).await, Err(NotIn::Refused));
    bind("kim", &|c| assert!(c.forget(&kim.key_hash())));
    assert_eq!(
        site.show(None, &kim).await,
        Err(NotIn::Refused),
        "it was taken away"
    );
    let device = site.issue(&authority, CertificateKind::Device, "kim");
    bind("kim", &|c| c.add_key(device.key_hash()).unwrap());
    assert_eq!(
        site.show(None, &device).await,
        Err(NotIn::Refused),
        "a device is no user"
    );
    // Pinned, whoever issued it: whose it is, the credentials say, unless several do.
    let elsewhere = Site::new().authority();
    let foreign = elsewhere.certificate();
    assert_eq!(site.show(None, foreign).await, Err(NotIn::Refused));
    bind("bob", &|c| c.pin(foreign.fingerprint()).unwrap());
    let from_elsewhere = |user| {
        let proof = Proof::Certificate(vec![foreign.der().to_vec()]);
        site.desk.log_in("https", user, proof, at(77))
    };
    assert_eq!(from_elsewhere(None).await.unwrap().user, "bob");
    bind("kim", &|c| c.pin(foreign.fingerprint()).unwrap());
    assert_eq!(from_elsewhere(None).await, Err(NotIn::Refused));
    assert_eq!(from_elsewhere(Some("kim")).await.unwrap().user, "kim");
}

#[tokio::test]
async fn certificates_that_were_seen_are_found_again() {
    let empty = LogInDesk::without_users("hub-1");
    assert!(empty.certificates().await.is_empty());
    let site = Site::new();
    let authority = site.authority();
    let (kim, bob) = (
        site.issue(&authority, CertificateKind::User, "kim"),
        site.issue(&authority, CertificateKind::User, "bob"),
    );
    site.files().keep_certificate(&kim).unwrap();
    let issued = site.dir.path().join("pki/issued/user");
    std::fs::create_dir_all(&issued).unwrap();
    std::fs::write(issued.join("bob.crt"), bob.to_pem()).unwrap();
    std::fs::write(issued.join("odd.crt"), "odd").unwrap();
    let found = site.desk.certificates().await;
    let found: Vec<_> = found.iter().map(|der| sha256(&[der])).collect();
    assert_eq!(found, [kim.fingerprint(), bob.fingerprint()]);
    assert_eq!(site.files().names().unwrap(), ["ann", "bob", "kim"]);
}

#[tokio::test]
async fn a_desk_that_knows_nobody_lets_nobody_in() {
    let desk = LogInDesk::without_users("hub-1");
    let proof = Proof::OneField(Zeroizing::new(PASSWORD.to_owned()));
    let asked = desk.log_in("opc.tcp", Some("ann"), proof, at(1)).await;
    assert_eq!(asked, Err(NotIn::Refused));
}
