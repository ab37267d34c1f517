//! Who is let in, and over which channels.

use super::*;
use crate::access::{Challenge, ChallengeError, Method, Proved, Role, TooEarly};
use crate::protocols::log_in::{LogInPort, NotIn, Proof};
use async_trait::async_trait;
use opcua::client::UARequest;
use opcua::client::services::{ActivateSession, CreateSession};
use opcua::client::transport::TcpConnector;
use opcua::types::EndpointDescription;

fn with_user(dir: &Path, config: &mut OpcUaServerConfig) {
    let password_file = dir.join("password");
    std::fs::write(&password_file, "open sesame\n").unwrap();
    config.users = vec![UserConfig {
        name: "scada".into(),
        password_file: Some(password_file),
        certificate: false,
        roles: vec![Role::Observer],
    }];
}

#[tokio::test]
async fn users_log_in_over_every_secure_policy_and_wrong_ones_do_not() {
    let hub = hub(with_user).await;
    hub.plc.update([(1, good(Value::U64(5)))]);
    let user = |password: &str| IdentityToken::new_user_name("scada", password);
    let encrypted = MessageSecurityMode::SignAndEncrypt;
    for policy in Policy::SECURE {
        for mode in Mode::ALL {
            let session = connect(&hub, policy.stack(), mode.stack(), user("open sesame"))
                .await
                .unwrap();
            let node = tag_node(&session, "count").await;
            assert_eq!(read(&session, &node).await.value, Some(Variant::UInt64(5)));
            session.disconnect().await.unwrap();
        }
    }
    let wrong = connect(
        &hub,
        SecurityPolicy::Basic256Sha256,
        encrypted,
        user("sesame"),
    );
    let status = wrong.await.err().unwrap().status();
    assert_eq!(status, StatusCode::BadIdentityTokenRejected);
}

#[tokio::test]
async fn a_user_certificate_is_let_in_and_a_strangers_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let dir = folder.path().join(name);
        let subject = pki::Subject {
            name: name.into(),
            application_uri: format!("urn:{name}"),
            hosts: Vec::new(),
        };
        pki::ensure(&dir, &subject).unwrap();
        let (certificate, key) = (dir.join("own/cert.der"), dir.join("private/private.pem"));
        let identity = IdentityToken::new_x509_path(&certificate, key).unwrap();
        (certificate, identity)
    };
    let (certificate, operator) = make("operator");
    let (_, stranger) = make("stranger");
    let hub = hub(|dir, config| {
        let users = dir.join("users");
        std::fs::create_dir(&users).unwrap();
        std::fs::copy(certificate, users.join("operator.der")).unwrap();
        config.user_certificates = Some(users);
        config.allow_none_loopback = false;
        config.users = vec![UserConfig {
            name: "operator".into(),
            password_file: None,
            certificate: true,
            roles: vec![Role::Operator],
        }];
    })
    .await;
    let policy = SecurityPolicy::Aes256Sha256RsaPss;
    let mode = MessageSecurityMode::SignAndEncrypt;
    let session = connect(&hub, policy, mode, operator).await.unwrap();
    let node = tag_node(&session, "setpoint").await;
    let level = super::write::user_access_level(&session, &node).await;
    assert_eq!(level, super::write::READ_AND_WRITE);
    assert_eq!(hub.sessions.users(), ["operator"]);
    let status = connect(&hub, policy, mode, stranger).await.err().unwrap();
    assert_eq!(status.status(), StatusCode::BadIdentityTokenRejected);
}

#[tokio::test]
async fn without_security_only_discovery_is_answered_where_none_is_not_allowed() {
    let hub = hub(|dir, config| {
        with_user(dir, config);
        config.allow_none_loopback = false;
    })
    .await;
    let endpoints = client(hub.dir.path())
        .get_server_endpoints_from_url(hub.server.url())
        .await
        .unwrap();
    assert_eq!(endpoints.len(), 6);
    for endpoint in &endpoints {
        assert_ne!(endpoint.security_mode, MessageSecurityMode::None);
        let port = format!(":{}/", hub.server.port());
        assert!(endpoint.endpoint_url.as_ref().ends_with(&port));
    }
    let (_session, events) = client(hub.dir.path())
        .connect_to_endpoint_directly(hub.server.url(), IdentityToken::Anonymous)
        .unwrap();
    let ended = tokio::time::timeout(PATIENCE, events.run()).await.unwrap();
    assert!(ended.is_bad(), "{ended}");
    assert_eq!(hub.server.guard_stats().expelled.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_unknown_client_certificate_is_put_aside_until_it_is_trusted() {
    let hub = hub(|dir, config| {
        with_user(dir, config);
        config.trust = Trust::Folder;
    })
    .await;
    let user = || IdentityToken::new_user_name("scada", "open sesame");
    let policy = SecurityPolicy::Basic256Sha256;
    let mode = MessageSecurityMode::SignAndEncrypt;
    assert!(connect(&hub, policy, mode, user()).await.is_err());
    let pki = hub.dir.path().join("pki");
    let rejected: Vec<_> = std::fs::read_dir(pki.join("rejected"))
        .unwrap()
        .map(|e| e.unwrap())
        .collect();
    assert_eq!(rejected.len(), 1);
    let trusted = pki.join("trusted").join(rejected[0].file_name());
    std::fs::rename(rejected[0].path(), trusted).unwrap();
    connect(&hub, policy, mode, user()).await.unwrap();
}

#[tokio::test]
async fn beyond_loopback_it_does_not_start_open() {
    let dir = tempfile::tempdir().unwrap();
    let config = OpcUaServerConfig {
        bind: "0.0.0.0:0".parse().unwrap(),
        pki_dir: dir.path().join("pki"),
        ..Default::default()
    };
    let started = ScadaServer::start(
        config,
        ScadaPorts::new(
            LiveView::default(),
            FakeLedger::new(),
            Arc::new(FakeSessions::default()),
        ),
    )
    .await;
    assert!(matches!(
        started.err().unwrap(),
        ScadaError::Config(ConfigError::NoUsers(_))
    ));
}

#[tokio::test]
async fn the_certificate_can_be_read_by_the_client() {
    let hub = hub(|_, _| {}).await;
    let own = hub.dir.path().join("pki/own/cert.der");
    let certificate = CertificateStore::read_cert(&own).unwrap();
    certificate.is_hostname_valid("127.0.0.1").unwrap();
    let endpoints = client(hub.dir.path())
        .get_server_endpoints_from_url(hub.server.url())
        .await
        .unwrap();
    assert_eq!(endpoints.len(), 7);
    let offered = &endpoints[0].server_certificate;
    assert_eq!(*offered, certificate.as_byte_string());
}

#[tokio::test]
async fn an_activated_session_without_security_gets_a_nonce_all_the_same() {
    let hub = hub(|_, _| {}).await;
    let client = client(hub.dir.path());
    let endpoint = EndpointDescription::from((
        hub.server.url(),
        SecurityPolicy::None.to_str(),
        MessageSecurityMode::None,
        UserTokenPolicy::anonymous(),
    ));
    let channel = client
        .session_builder()
        .connect_to_endpoint_directly(endpoint.clone())
        .unwrap()
        .build_channel(client.certificate_store().clone())
        .unwrap();
    let connector = TcpConnector::new(hub.server.url()).unwrap();
    let mut events = channel.connect_no_retry(&connector).await.unwrap();
    let store = client.certificate_store();
    let create = CreateSession::new_manual(store, &endpoint, 1, SECOND, NodeId::null(), 1)
        .endpoint_url(hub.server.url())
        .session_timeout(30_000.0);
    let activate = async {
        let created = create.send(&channel).await.unwrap();
        let token = created.authentication_token;
        ActivateSession::new_manual(endpoint.clone(), 1, SECOND, token, 2)
            .send(&channel)
            .await
            .unwrap()
    };
    tokio::pin!(activate);
    let activated = loop {
        tokio::select! {
            _ = events.poll() => {}
            activated = &mut activate => break activated,
        }
    };
    assert_eq!(activated.server_nonce.value.map(|n| n.len()), Some(32));
}

/// A desk at which `ann` logs in by one field, `kim` by a certificate, and `slow` has to wait; remembers from where
/// who came.
#[derive(Default)]
struct FakeDesk {
    kims: Vec<u8>,
    /// Kim's certificate holds no more.
    over: std::sync::atomic::AtomicBool,
    /// Ann has another password.
    changed: std::sync::atomic::AtomicBool,
    asked: Mutex<Vec<(Option<String>, std::net::IpAddr)>>,
}

#[async_trait]
impl LogInPort for FakeDesk {
    async fn log_in(
        &self,
        face: &'static str,
        user: Option<&str>,
        proof: Proof,
        from: std::net::IpAddr,
    ) -> Result<Proved, NotIn> {
        assert_eq!(face, "opc.tcp");
        self.asked.lock().push((user.map(str::to_owned), from));
        let changed = self.changed.load(Ordering::Relaxed);
        let (user, method, password) = match (user, proof) {
            (Some("ann"), Proof::OneField(field)) if *field == "open sesame 123456" && !changed => {
                ("ann", Method::PasswordAndCode, Some(Hash([7; 32])))
            }
            (None, Proof::Certificate(chain))
                if chain == [self.kims.clone()] && !self.over.load(Ordering::Relaxed) =>
            {
                ("kim", Method::Certificate, None)
            }
            (Some("slow"), _) => return Err(NotIn::TooEarly(TooEarly { until: i64::MAX })),
            _ => return Err(NotIn::Refused),
        };
        Ok(Proved {
            user: user.to_owned(),
            method,
            step: None,
            key: None,
            until: None,
            password,
        })
    }

    fn challenge(&self, _: &str, _: std::net::IpAddr) -> Result<Challenge, ChallengeError> {
        Err(ChallengeError::Subject)
    }

    async fn holds(&self, user: &str, certificate: &[u8]) -> bool {
        assert_eq!((user, certificate), ("kim", &*self.kims));
        !self.over.load(Ordering::Relaxed)
    }

    async fn has_password(&self, user: &str, mark: &Hash) -> bool {
        assert_eq!((user, mark), ("ann", &Hash([7; 32])));
        !self.changed.load(Ordering::Relaxed)
    }

    async fn certificates(&self) -> Arc<[Vec<u8>]> {
        [b"no certificate".to_vec(), self.kims.clone()].into()
    }
}

#[tokio::test]
async fn the_hubs_users_log_in_here_and_it_is_known_from_where() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let dir = folder.path().join(name);
        let subject = pki::Subject {
            name: name.into(),
            application_uri: format!("urn:{name}"),
            hosts: Vec::new(),
        };
        pki::ensure(&dir, &subject).unwrap();
        let (certificate, key) = (dir.join("own/cert.der"), dir.join("private/private.pem"));
        let identity = IdentityToken::new_x509_path(&certificate, key).unwrap();
        (std::fs::read(certificate).unwrap(), identity)
    };
    let (kims, kim) = make("kim");
    let (_, stranger) = make("stranger");
    let desk = Arc::new(FakeDesk {
        kims,
        ..FakeDesk::default()
    });
    let hub = hub_with(
        |_, config| {
            config.log_in = true;
            let user = |name: &str| UserConfig {
                name: name.into(),
                password_file: None,
                certificate: false,
                roles: vec![Role::Operator],
            };
            config.users = vec![user("ann"), user("kim"), user("slow")];
        },
        |ports| ports.log_in = Some(desk.clone()),
    )
    .await;
    let (policy, mode) = (
        SecurityPolicy::Basic256Sha256,
        MessageSecurityMode::SignAndEncrypt,
    );
    let password = |user: &str, field: &str| IdentityToken::new_user_name(user, field);
    for (identity, user) in [(password("ann", "open sesame 123456"), "ann"), (kim, "kim")] {
        let session = connect(&hub, policy, mode, identity).await.unwrap();
        let node = tag_node(&session, "setpoint").await;
        let level = super::write::user_access_level(&session, &node).await;
        assert_eq!(level, super::write::READ_AND_WRITE);
        assert!(hub.sessions.users().contains(&user.to_owned()));
        session.disconnect().await.unwrap();
    }
    for (identity, status) in [
        (
            password("ann", "open sesame"),
            StatusCode::BadIdentityTokenRejected,
        ),
        (stranger, StatusCode::BadIdentityTokenRejected),
        (
            password("slow", "open sesame"),
            StatusCode::BadServerTooBusy,
        ),
    ] {
        let refused = connect(&hub, policy, mode, identity).await.err().unwrap();
        assert_eq!(refused.status(), status);
    }
    let asked = desk.asked.lock().clone();
    let here: std::net::IpAddr = [127, 0, 0, 1].into();
    let name = |user: &str| Some(user.to_owned());
    let users = [name("ann"), None, name("ann"), None, name("slow")];
    assert_eq!(asked, users.map(|user| (user, here)));
}

#[tokio::test]
async fn a_session_ends_with_the_certificate_or_password_that_it_was_begun_by() {
    let folder = tempfile::tempdir().unwrap();
    let subject = pki::Subject {
        name: "kim".into(),
        application_uri: "urn:kim".into(),
        hosts: Vec::new(),
    };
    pki::ensure(folder.path(), &subject).unwrap();
    let [certificate, key] = &pki::own_files(folder.path())[..] else {
        panic!("two files")
    };
    let identity = || IdentityToken::new_x509_path(certificate, key).unwrap();
    let desk = Arc::new(FakeDesk {
        kims: std::fs::read(certificate).unwrap(),
        ..FakeDesk::default()
    });
    let hub = hub_with(
        |_, config| {
            config.log_in = true;
            let user = |name: &str| UserConfig {
                name: name.into(),
                password_file: None,
                certificate: false,
                roles: vec![Role::Observer],
            };
            config.users = vec![user("ann"), user("kim")];
        },
        |ports| ports.log_in = Some(desk.clone()),
    )
    .await;
    hub.plc.update([(1, good(Value::U64(5)))]);
    let (policy, mode) = (
        SecurityPolicy::Basic256Sha256,
        MessageSecurityMode::SignAndEncrypt,
    );
    let kim = connect(&hub, policy, mode, identity()).await.unwrap();
    let password = || IdentityToken::new_user_name("ann", "open sesame 123456");
    let ann = connect(&hub, policy, mode, password()).await.unwrap();
    let node = tag_node(&kim, "count").await;
    for session in [&kim, &ann] {
        assert_eq!(read(session, &node).await.value, Some(Variant::UInt64(5)));
    }
    desk.over.store(true, Ordering::Relaxed);
    let ended = async |session: &Session| {
        let asked = [ReadValueId::from(node.clone())];
        let read = async || session.read(&asked, TimestampsToReturn::Both, 0.0).await;
        let ends = async {
            while read().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ends).await.unwrap();
    };
    // Kim comes back by herself, and is not let in again; Ann is not concerned.
    ended(&kim).await;
    let refused = connect(&hub, policy, mode, identity()).await.err().unwrap();
    assert_eq!(refused.status(), StatusCode::BadIdentityTokenRejected);
    assert_eq!(read(&ann, &node).await.value, Some(Variant::UInt64(5)));
    desk.changed.store(true, Ordering::Relaxed);
    ended(&ann).await;
    let refused = connect(&hub, policy, mode, password()).await.err().unwrap();
    assert_eq!(refused.status(), StatusCode::BadIdentityTokenRejected);
}

#[tokio::test]
async fn another_certificate_of_the_server_is_shown_to_who_connects_from_then_on() {
    let hub = hub(with_user).await;
    hub.plc.update([(1, good(Value::U64(5)))]);
    let user = || IdentityToken::new_user_name("scada", "open sesame");
    let (policy, mode) = (
        SecurityPolicy::Basic256Sha256,
        MessageSecurityMode::SignAndEncrypt,
    );
    let before = connect(&hub, policy, mode, user()).await.unwrap();
    let node = tag_node(&before, "count").await;
    let (_, new) = pki::renew(&hub.dir.path().join("pki")).unwrap();
    let offered = async || {
        let client = client(hub.dir.path());
        let endpoints = client.get_server_endpoints_from_url(hub.server.url()).await;
        let endpoints = endpoints.unwrap_or_default();
        let first = endpoints.first().map(|e| e.server_certificate.clone());
        first.map(|der| {
            opcua::crypto::X509::from_byte_string(&der)
                .unwrap()
                .thumbprint()
        })
    };
    let wanted = new.thumbprint.to_lowercase();
    let shown = async {
        let is_new = |t: opcua::crypto::Thumbprint| t.as_hex_string().to_lowercase() == wanted;
        while !offered().await.is_some_and(is_new) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, shown).await.unwrap();
    let after = connect(&hub, policy, mode, user()).await.unwrap();
    assert_eq!(read(&after, &node).await.value, Some(Variant::UInt64(5)));
}

/// Tells what users do at other faces.
#[derive(Default)]
struct Elsewhere {
    full: std::sync::atomic::AtomicBool,
    busy: std::sync::atomic::AtomicBool,
}

impl SessionPort for Elsewhere {
    fn asked(&self, _: &str, _: &str) {}

    fn ended(&self, _: &str) {}

    fn open(&self) -> usize {
        0
    }

    fn admits(&self, user: &str) -> bool {
        assert_eq!(user, "ann");
        !self.full.load(Ordering::Relaxed)
    }

    fn spend(&self, user: &str) -> Result<(), Duration> {
        assert_eq!(user, "ann");
        match self.busy.load(Ordering::Relaxed) {
            true => Err(SECOND),
            false => Ok(()),
        }
    }
}

#[tokio::test]
async fn bounds_over_all_faces_hold_here() {
    let elsewhere = Arc::new(Elsewhere::default());
    let hub = hub_with(
        |_, config| {
            config.log_in = true;
            config.users = vec![UserConfig {
                name: "ann".into(),
                password_file: None,
                certificate: false,
                roles: vec![Role::Observer],
            }];
        },
        |ports| {
            ports.log_in = Some(Arc::new(FakeDesk::default()));
            ports.sessions = elsewhere.clone();
        },
    )
    .await;
    hub.plc.update([(1, good(Value::U64(5)))]);
    let ann = || IdentityToken::new_user_name("ann", "open sesame 123456");
    let (policy, mode) = (
        SecurityPolicy::Basic256Sha256,
        MessageSecurityMode::SignAndEncrypt,
    );
    elsewhere.full.store(true, Ordering::Relaxed);
    let refused = connect(&hub, policy, mode, ann()).await.err().unwrap();
    assert_eq!(refused.status(), StatusCode::BadTooManySessions);
    elsewhere.full.store(false, Ordering::Relaxed);
    let session = connect(&hub, policy, mode, ann()).await.unwrap();
    let node = tag_node(&session, "count").await;
    assert_eq!(read(&session, &node).await.value, Some(Variant::UInt64(5)));
    elsewhere.busy.store(true, Ordering::Relaxed);
    let held_up = read(&session, &node).await;
    assert_eq!(held_up.status, Some(StatusCode::BadTooManyOperations));
    elsewhere.busy.store(false, Ordering::Relaxed);
    assert_eq!(read(&session, &node).await.value, Some(Variant::UInt64(5)));
}
