//! Tables of log-ins.

use super::*;
use crate::access::{Challenges, Totp};
use crate::crypto::authority::{Serial, Wanted, public_key_of};
use crate::crypto::{Authority, CertifiedName, Identity, Signer, TotpHash, TotpSecret};
use std::net::IpAddr;
use std::sync::LazyLock;
use weighbridge_verifier::sha256;

const SECOND: Nanos = 1_000_000_000;
const NOW: Nanos = 1_767_225_600 * SECOND;
const DAY: Nanos = 86_400 * SECOND;

/// Hashing takes long in tests.
static HASH: LazyLock<PasswordHash> =
    LazyLock::new(|| PasswordHash::with_salt(b"open sesame", &[7; 16]).unwrap());

fn secret() -> TotpSecret {
    TotpSecret::from_bytes(b"12345678901234567890", TotpHash::Sha1).unwrap()
}

fn ann(totp: bool) -> Credentials {
    let mut ann = Credentials::new("ann").unwrap();
    ann.password = Some(HASH.clone());
    ann.totp = totp.then(|| Totp {
        secret: secret(),
        last_step: None,
    });
    ann
}

#[test]
fn passwords_and_codes() {
    let code = secret().shown(NOW);
    let code = Some(code.as_str());
    let late = secret().shown(NOW - 90 * SECOND);
    let (right, wrong) = ("open sesame", "open sesam");
    let with = Some(ann(true));
    let without = Some(ann(false));
    let nothing = Some(Credentials::new("ann").unwrap());
    let table = [
        (&without, right, None, Ok(Method::Password)),
        (&without, right, Some("000000"), Ok(Method::Password)),
        (&without, wrong, None, Err(Refused::Password)),
        (&without, "", None, Err(Refused::Password)),
        (&with, right, code, Ok(Method::PasswordAndCode)),
        (&with, wrong, code, Err(Refused::Password)),
        (&with, right, None, Err(Refused::NoCode)),
        (&with, right, Some(""), Err(Refused::Code)),
        (&with, right, Some(late.as_str()), Err(Refused::Code)),
        (&nothing, "", None, Err(Refused::NoPassword)),
        (&None, right, code, Err(Refused::Unknown)),
    ];
    for (credentials, password, code, wanted) in table {
        let attempt = Attempt::Password {
            password: password.as_bytes(),
            code,
        };
        let got = verify_login(credentials.as_ref(), &attempt, NOW);
        assert_eq!(got.clone().map(|p| p.method), wanted, "{password} {code:?}");
        if let Ok(proved) = got {
            assert_eq!(proved.user, "ann");
            let step = (proved.method == Method::PasswordAndCode)
                .then_some(NOW as u64 / SECOND as u64 / 30);
            assert_eq!(proved.step, step);
        }
    }
}

#[test]
fn a_password_and_a_code_in_one_field() {
    let code = secret().shown(NOW);
    let field = |password: &str| format!("{password} {}", *code);
    let with = |password: &str| {
        let mut ann = ann(true);
        ann.password = Some(PasswordHash::with_salt(password.as_bytes(), &[7; 16]).unwrap());
        ann
    };
    let plain = ann(false);
    let table = [
        (
            with("open sesame"),
            field("open sesame"),
            Ok(Method::PasswordAndCode),
        ),
        (
            with("ends in one "),
            field("ends in one "),
            Ok(Method::PasswordAndCode),
        ),
        (
            with("ends in 123456"),
            field("ends in 123456"),
            Ok(Method::PasswordAndCode),
        ),
        (
            with("open sesame"),
            "open sesame".to_owned(),
            Err(Refused::NoCode),
        ),
        (
            with("open sesame"),
            format!("open sesame{}", *code),
            Err(Refused::Password),
        ),
        (
            with("open sesame"),
            format!("open sesame {}0", *code),
            Err(Refused::Password),
        ),
        (
            with("open sesame"),
            field("open sesam"),
            Err(Refused::Password),
        ),
        (with("open sesame"), field(""), Err(Refused::Password)),
        (
            plain.clone(),
            "open sesame".to_owned(),
            Ok(Method::Password),
        ),
        (plain, field("open sesame"), Err(Refused::Password)),
    ];
    for (credentials, field, wanted) in table {
        let got = verify_login(Some(&credentials), &Attempt::OneField(&field), NOW);
        assert_eq!(got.map(|p| p.method), wanted, "{field}");
    }
}

#[test]
fn a_code_is_good_once() {
    let mut ann = ann(true);
    let code = secret().shown(NOW);
    let attempt = Attempt::Password {
        password: b"open sesame",
        code: Some(&code),
    };
    let proved = verify_login(Some(&ann), &attempt, NOW).unwrap();
    ann.totp.as_mut().unwrap().last_step = proved.step;
    let again = verify_login(Some(&ann), &attempt, NOW);
    assert_eq!(again, Err(Refused::Code));
    assert_eq!(verify_code(&ann, &code, NOW), Err(Refused::Code));
    let next = secret().shown(NOW + 30 * SECOND);
    assert_eq!(verify_code(&ann, &next, NOW), Ok(proved.step.unwrap() + 1));
    assert_eq!(
        verify_code(&self::ann(false), &code, NOW),
        Err(Refused::NoTotp)
    );
}

struct Site {
    authority: Authority,
    key: Vec<u8>,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ann.key");
        Identity::from_byte("ann", 5).save(&file).unwrap();
        let (key, certificate) = Authority::make("hub-1", NOW, Serial([1; 16])).unwrap();
        Self {
            authority: Authority::new(certificate, &key).unwrap(),
            key: public_key_of(&file).unwrap(),
        }
    }

    fn certificate(&self, kind: CertificateKind, id: &str) -> Certificate {
        let wanted = Wanted {
            name: CertifiedName {
                kind,
                id: id.into(),
            },
            hosts: vec![],
            key: self.key.clone(),
            days: 10,
        };
        self.authority
            .issue(&wanted, NOW, Serial::random())
            .unwrap()
    }

    fn trusted(&self) -> Authorities {
        Authorities::new(std::slice::from_ref(self.authority.certificate())).unwrap()
    }
}

#[test]
fn certificates() {
    let (site, stranger) = (Site::new(), Site::new());
    let own = site.certificate(CertificateKind::User, "ann");
    let mut ann = Credentials::new("ann").unwrap();
    ann.add_key(own.key_hash()).unwrap();
    let keyless = Credentials::new("ann").unwrap();
    let mut pinned = Credentials::new("ann").unwrap();
    let foreign = stranger.certificate(CertificateKind::User, "ann");
    pinned.pin(foreign.fingerprint()).unwrap();

    let of_bob = site.certificate(CertificateKind::User, "bob");
    let of_a_device = site.certificate(CertificateKind::Device, "ann");
    let authority = site.authority.certificate().clone();
    let table = [
        ("theirs", &ann, &own, NOW, "ok"),
        (
            "renewed",
            &ann,
            &site.certificate(CertificateKind::User, "ann"),
            NOW,
            "ok",
        ),
        ("of another key", &keyless, &own, NOW, "key"),
        ("expired", &ann, &own, NOW + 11 * DAY, "certificate"),
        ("too early", &ann, &own, NOW - DAY, "certificate"),
        ("of another authority", &ann, &foreign, NOW, "certificate"),
        ("of another user with her key", &ann, &of_bob, NOW, "name"),
        ("of a device with her name", &ann, &of_a_device, NOW, "name"),
        ("pinned", &pinned, &foreign, NOW, "ok"),
        (
            "pinned and expired",
            &pinned,
            &foreign,
            NOW + 11 * DAY,
            "certificate",
        ),
        ("the authority's own", &ann, &authority, NOW, "certificate"),
    ];
    let authorities = site.trusted();
    for (what, credentials, shown, now, wanted) in table {
        let chain = [shown.der().to_vec()];
        let attempt = Attempt::Certificate {
            chain: &chain,
            authorities: Some(&authorities),
        };
        let got = verify_login(Some(credentials), &attempt, now);
        let got = match &got {
            Ok(proved) => {
                assert_eq!(proved.until, Some(shown.valid_until));
                assert_eq!(proved.key, Some(shown.key_hash()));
                "ok"
            }
            Err(Refused::Certificate(_)) => "certificate",
            Err(Refused::Name) => "name",
            Err(Refused::Key) => "key",
            Err(other) => panic!("{what}: {other}"),
        };
        assert_eq!(got, wanted, "{what}");
    }
    for (chain, authorities) in [
        (vec![], Some(&authorities)),
        (vec![vec![0x30, 0]], Some(&authorities)),
        (vec![own.der().to_vec()], None),
    ] {
        let attempt = Attempt::Certificate {
            chain: &chain,
            authorities,
        };
        let refused = verify_login(Some(&ann), &attempt, NOW);
        assert!(
            matches!(refused, Err(Refused::Certificate(_))),
            "{refused:?}"
        );
    }
    let chain = [own.der().to_vec()];
    let attempt = Attempt::Certificate {
        chain: &chain,
        authorities: Some(&authorities),
    };
    assert_eq!(verify_login(None, &attempt, NOW), Err(Refused::Unknown));
}

#[test]
fn signed_challenges() {
    let mut challenges = Challenges::new("hub-1");
    let from = IpAddr::from([192, 0, 2, 1]);
    let mut number = 0;
    let mut ask = |subject: &str| {
        number += 1;
        challenges.open(subject, from, [number; 32], NOW).unwrap()
    };
    let (mine, other) = (Identity::from_byte("ann", 5), Identity::from_byte("eve", 6));
    let mut ann = Credentials::new("ann").unwrap();
    ann.add_key(possession::key_hash(&mine.public_key()).unwrap())
        .unwrap();
    let for_ann = ask("user:ann");
    let table = [
        (&ann, &mine, &mine, &for_ann, NOW, Ok(Method::Signature)),
        (&ann, &other, &other, &for_ann, NOW, Err(Refused::Key)),
        (&ann, &other, &mine, &for_ann, NOW, Err(Refused::Signature)),
        (
            &ann,
            &mine,
            &mine,
            &ask("user:bob"),
            NOW,
            Err(Refused::Challenge),
        ),
        (
            &ann,
            &mine,
            &mine,
            &for_ann,
            NOW + 60 * SECOND,
            Err(Refused::Challenge),
        ),
    ];
    for (credentials, signer, says, challenge, now, wanted) in table {
        let signature = signer.sign(&sha256(&[challenge.text().as_bytes()]));
        let attempt = Attempt::Signature {
            challenge,
            key: &says.public_key(),
            signature: &signature.0,
        };
        let got = verify_login(Some(credentials), &attempt, now);
        assert_eq!(got.map(|p| p.method), wanted);
        assert_eq!(verify_login(None, &attempt, now), Err(Refused::Unknown));
    }
}

/// Not a matter of time but of what is computed: a hash is compared whoever asks.
#[test]
fn an_unknown_user_costs_a_hash_of_the_same_parameters() {
    let parameters = |hash: &PasswordHash| {
        hash.to_phc()
            .split('$')
            .take(4)
            .collect::<Vec<_>>()
            .join("$")
    };
    assert_eq!(parameters(PasswordHash::nobody()), parameters(&HASH));
}
