//! What carries Modbus: serial lines, RTU over TCP, TLS, and connections that devices share.

use crate::modbus_device::{Frames, HOLDING, Memory, Shared, listen, mbap, rtu};
use crate::support::Random;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use weighbridge::crypto::possession::certified_key_hash;
use weighbridge::crypto::{Certificate, TlsFiles};
use weighbridge::model::{Batch, BatchBuilder, TagSpec, Value};
use weighbridge::protocols::control::TagWrite;
use weighbridge::protocols::modbus::{ModbusConfig, ModbusPoint, ModbusSource};
use weighbridge::protocols::{Source, SourceError};

fn source(config: &str, registers: std::ops::Range<u16>) -> ModbusSource {
    let config: ModbusConfig = toml::from_str(config).unwrap_or_else(|e| panic!("{config}: {e}"));
    let points = registers.map(|address| {
        let point: ModbusPoint = toml::from_str(&format!("holding_register = {address}")).unwrap();
        let spec = TagSpec {
            name: format!("r{address}").into(),
            kind: point.value_kind(),
            unit: String::new(),
            description: String::new(),
            range: None,
            writable: true,
        };
        (spec, point)
    });
    ModbusSource::new("plc".into(), config, points.collect()).unwrap()
}

async fn scan(source: &mut ModbusSource) -> Result<Batch, SourceError> {
    let mut out = BatchBuilder::scanning("plc".into(), source.tags());
    source.read(&mut out).await?;
    Ok(out.take(1, 1).unwrap())
}

/// Reads once; every register holds what the device has.
async fn reads(source: &mut ModbusSource, memory: &Shared, first: u16) {
    let batch = scan(source).await.unwrap();
    for (column, address) in batch.columns.iter().zip(first..) {
        let expected = memory.lock().cell(HOLDING, address);
        assert_eq!(column.values.get(0), Some(Value::U64(expected.into())));
    }
}

#[tokio::test]
async fn rtu_frames_go_through_a_tcp_port() {
    let memory = Memory::shared();
    let address = listen(memory.clone(), Frames::Rtu).await;
    let mut source = source(
        &format!("address = \"{address}\"\nframing = \"rtu\"\nunit_id = 9\nperiod_ms = 0"),
        0..300,
    );
    source.connect().await.unwrap();
    reads(&mut source, &memory, 0).await;
    assert!(memory.lock().asked.iter().all(|a| a.unit == 9));
    // Rubbish before an answer is skipped, because the checksum says where the answer is.
    memory.lock().rubbish = vec![0xff, 0x00, 0x13];
    reads(&mut source, &memory, 0).await;
}

#[cfg(unix)]
mod serial {
    use super::*;
    use std::fs::File;
    use tokio_serial::{SerialPort, SerialStream};

    /// A serial line with a device at its other end: the port's path, and what keeps it open.
    fn line(memory: &Shared) -> (String, File) {
        let (device, ours) = SerialStream::pair().unwrap();
        let path = ours.name().unwrap();
        // The pair's own end is locked for others.
        let open = File::options().read(true).write(true).open(&path).unwrap();
        drop(ours);
        tokio::spawn(rtu(device, memory.clone()));
        (path, open)
    }

    fn config(path: &str, unit: u8) -> String {
        format!(
            "serial = \"{path}\"\nbaud = 115200\nparity = \"none\"\nunit_id = {unit}\n\
             period_ms = 0\ntimeout_ms = 150"
        )
    }

    #[tokio::test]
    async fn devices_take_turns_on_a_serial_line_and_a_dead_one_leaves_the_others() {
        let memory = Memory::shared();
        memory.lock().units = [1, 2].into();
        let (path, _open) = line(&memory);
        let mut one = source(&config(&path, 1), 0..20);
        let mut two = source(&config(&path, 2), 20..40);
        let mut dead = source(&config(&path, 3), 0..1);
        for source in [&mut one, &mut two, &mut dead] {
            source.connect().await.unwrap();
        }
        for _ in 0..3 {
            let (_, _, lost) = tokio::join!(
                reads(&mut one, &memory, 0),
                reads(&mut two, &memory, 20),
                scan(&mut dead)
            );
            assert!(matches!(lost, Err(SourceError::Timeout { .. })), "{lost:?}");
            dead.connect().await.unwrap();
        }
        // The port was never closed: the device saw one connection.
        assert!(memory.lock().asked.iter().all(|a| a.connection == 0));
    }

    #[tokio::test]
    async fn rubbish_on_the_line_is_survived() {
        let memory = Memory::shared();
        let (path, _open) = line(&memory);
        let mut source = source(&config(&path, 1), 0..10);
        source.connect().await.unwrap();
        reads(&mut source, &memory, 0).await;
        memory.lock().silent = true;
        let error = scan(&mut source).await.unwrap_err();
        assert!(matches!(error, SourceError::Timeout { .. }), "{error}");
        memory.lock().silent = false;
        // So much that no answer can be made out.
        memory.lock().rubbish = vec![0x01; 90];
        source.connect().await.unwrap();
        scan(&mut source).await.unwrap_err();
        memory.lock().rubbish = Vec::new();
        source.connect().await.unwrap();
        reads(&mut source, &memory, 0).await;
    }

    #[tokio::test]
    async fn a_port_that_is_not_there_is_named() {
        let mut source = source(&config("/dev/ttyNowhere", 1), 0..1);
        let error = source.connect().await.unwrap_err().to_string();
        assert!(error.contains("/dev/ttyNowhere"), "{error}");
        assert!(error.contains("no such serial port"), "{error}");
    }
}

#[tokio::test]
async fn devices_that_share_a_connection_have_one() {
    let memory = Memory::shared();
    let address = listen(memory.clone(), Frames::Mbap).await;
    let config = |unit| {
        format!(
            "address = \"{address}\"\nshare_connection = true\nunit_id = {unit}\nperiod_ms = 0\n\
             timeout_ms = 300"
        )
    };
    let mut sources = [source(&config(1), 0..200), source(&config(2), 0..200)];
    let [one, two] = &mut sources;
    one.connect().await.unwrap();
    two.connect().await.unwrap();
    tokio::join!(reads(one, &memory, 0), reads(two, &memory, 0));
    assert!(memory.lock().asked.iter().all(|a| a.connection == 0));
    // After a timeout the connection is another one, for both, and nobody takes the late answer.
    memory.lock().silent = true;
    scan(one).await.unwrap_err();
    memory.lock().silent = false;
    memory.lock().asked.clear();
    reads(two, &memory, 0).await;
    one.connect().await.unwrap();
    reads(one, &memory, 0).await;
    assert!(memory.lock().asked.iter().all(|a| a.connection == 1));
}

#[tokio::test]
async fn a_device_gets_the_silence_that_it_needs() {
    let memory = Memory::shared();
    let address = listen(memory.clone(), Frames::Mbap).await;
    let config = format!("address = \"{address}\"\ndelay_ms = 30\nperiod_ms = 0");
    let mut source = source(&config, 0..500);
    source.connect().await.unwrap();
    let began = Instant::now();
    reads(&mut source, &memory, 0).await;
    // Four requests have three pauses between them.
    assert!(began.elapsed() >= Duration::from_millis(90));
}

#[tokio::test]
async fn a_device_says_who_it_is() {
    let memory = Memory::shared();
    let address = listen(memory.clone(), Frames::Mbap).await;
    let config = format!("address = \"{address}\"\nidentify = true\nperiod_ms = 0");
    let mut plain = source(&config, 0..1);
    plain.connect().await.unwrap();
    let identification = plain.identification().unwrap();
    assert_eq!(identification.to_string(), "Weighs & Co WB-1 v2");
    let plate = plain.about().nameplate.unwrap();
    assert_eq!(plate.manufacturer, "Weighs & Co");
    assert_eq!(plate.version, "v2");
    // One that does not know the function is read all the same.
    memory.lock().without.insert(43);
    let mut other = source(&config, 0..1);
    other.connect().await.unwrap();
    assert_eq!(other.identification(), None);
    reads(&mut other, &memory, 0).await;
}

/// 200 troubles in a random order, by a seed that is printed: a device that restarts, falls silent
/// (so that the connection is half open), or sends rubbish; and a write that is given up half way.
/// When it is over, every register has the device's own value again.
#[tokio::test]
async fn whatever_befalls_a_device_its_values_come_back() {
    for (frames, framing) in [(Frames::Mbap, "tcp"), (Frames::Rtu, "rtu")] {
        let mut random = Random::from_env();
        let memory = Memory::shared();
        let address = listen(memory.clone(), frames).await;
        let mut source = source(
            &format!(
                "address = \"{address}\"\nframing = \"{framing}\"\nperiod_ms = 0\ntimeout_ms = 60"
            ),
            0..150,
        );
        let control = source.control().unwrap();
        let mut connected = false;
        for cycle in 0..100 {
            let trouble = random.below(4);
            {
                let mut memory = memory.lock();
                memory.cells.insert((HOLDING, 7), cycle);
                match trouble {
                    0 => memory.away = true,
                    1 => memory.silent = true,
                    2 => {
                        let rubbish = (0..1 + random.below(300)).map(|_| random.below(256) as u8);
                        memory.rubbish = rubbish.collect();
                    }
                    _ => {}
                }
            }
            if trouble == 3 {
                let write = TagWrite {
                    tag: 9,
                    value: Value::U64(cycle.into()),
                };
                let writes = [write];
                // One step, and then nobody waits for it any more.
                let _ = tokio::time::timeout(Duration::ZERO, control.write(&writes)).await;
            } else if connected {
                // What it says meanwhile is nobody's business here.
                let _ = scan(&mut source).await;
            }
            {
                let mut memory = memory.lock();
                (memory.away, memory.silent, memory.rubbish) = (false, false, Vec::new());
            }
            let mut attempts = 0;
            let batch = loop {
                attempts += 1;
                assert!(
                    attempts < 50,
                    "{framing}, seed {}, cycle {cycle}: trouble {trouble} does not end",
                    random.seed
                );
                connected = source.connect().await.is_ok();
                if let Ok(batch) = scan(&mut source).await {
                    break batch;
                }
            };
            for (column, address) in batch.columns.iter().zip(0..) {
                let expected = memory.lock().cell(HOLDING, address);
                // The write that was given up may have been done meanwhile.
                if address != 9 {
                    let found = column.values.get(0);
                    assert_eq!(
                        found,
                        Some(Value::U64(expected.into())),
                        "seed {}",
                        random.seed
                    );
                }
            }
        }
    }
}

/// An authority, and certificates that it gives away.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Files of one side in `dir`: its certificate is for `name`, and it trusts `other`.
    fn files(&self, dir: &Path, side: &str, name: &str, other: &Authority) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let file = |what: &str| dir.join(format!("{side}-{what}.pem"));
        let files = TlsFiles {
            ca: file("ca"),
            certificate: file("certificate"),
            key: file("key"),
        };
        std::fs::write(&files.ca, other.0.pem()).unwrap();
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&files.key, mode).unwrap();
        }
        files
    }
}

/// A device that speaks TLS, and only to whom it trusts.
async fn tls_device(memory: &Shared, files: &TlsFiles) -> SocketAddr {
    let acceptor = TlsAcceptor::from(files.server().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let memory = memory.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, memory) = (acceptor.clone(), memory.clone());
            tokio::spawn(async move {
                // Whoever is not trusted goes away.
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = mbap(stream, memory).await;
                }
            });
        }
    });
    address
}

fn tls_config(address: SocketAddr, files: &TlsFiles, more: &str) -> String {
    let (ca, certificate, key) = (&files.ca, &files.certificate, &files.key);
    format!(
        "address = \"{address}\"\nperiod_ms = 0\ntls = {{ ca = \"{}\", certificate = \"{}\", key = \"{}\"{more} }}",
        ca.display(),
        certificate.display(),
        key.display()
    )
}

#[tokio::test]
async fn tls_is_mutual_and_both_certificates_count() {
    let dir = tempfile::tempdir().unwrap();
    let (plant, stranger) = (Authority::new(), Authority::new());
    let device = plant.files(dir.path(), "device", "plc.example", &plant);
    let memory = Memory::shared();
    let address = tls_device(&memory, &device).await;
    let hub = plant.files(dir.path(), "hub", "hub.example", &plant);
    let named = ", server_name = \"plc.example\"";

    let mut trusted = source(&tls_config(address, &hub, named), 0..50);
    trusted.connect().await.unwrap();
    reads(&mut trusted, &memory, 0).await;
    // It is known by its address and the key of its certificate; another certificate is another key.
    let peer = trusted.peer().unwrap();
    assert_eq!((peer.address, peer.mac), (address, None));
    let other = plant.files(dir.path(), "other", "plc.example", &plant);
    let key = |files: &TlsFiles| {
        let pem = std::fs::read(&files.certificate).unwrap();
        let certificate = Certificate::from_bytes(&pem).unwrap().remove(0);
        certified_key_hash(certificate.der())
    };
    assert!(peer.key.is_some() && peer.key == key(&device));
    assert_ne!(peer.key, key(&other));

    // The certificate is for another name than the address.
    let mut unnamed = source(&tls_config(address, &hub, ""), 0..1);
    let error = unnamed.connect().await.unwrap_err().to_string();
    assert!(error.contains("must be for 127.0.0.1"), "{error}");

    // The device's authority is not ours.
    let mistrusting = plant.files(dir.path(), "mistrusting", "hub.example", &stranger);
    let mut other = source(&tls_config(address, &mistrusting, named), 0..1);
    let error = other.connect().await.unwrap_err().to_string();
    assert!(error.contains("TLS handshake"), "{error}");

    // The device does not know our authority; with TLS 1.3 it says so after the handshake.
    let unknown = stranger.files(dir.path(), "unknown", "hub.example", &plant);
    let mut unknown = source(&tls_config(address, &unknown, named), 0..1);
    let refused = match unknown.connect().await {
        Ok(()) => scan(&mut unknown).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(refused.is_err());

    // A key that everybody can read is not used.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&hub.key, open).unwrap();
        let error = trusted.connect().await.unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}

#[tokio::test]
async fn a_device_that_speaks_tls_1_1_is_left_alone() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().unwrap();
    let plant = Authority::new();
    let hub = plant.files(dir.path(), "hub", "hub.example", &plant);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let device = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 5];
        stream.read_exact(&mut head).await.unwrap();
        let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        stream.read_exact(&mut hello).await.unwrap();
        // ServerHello of TLS 1.1 (RFC 4346, 7.4.1.3) with TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA.
        let mut answer = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
        answer.extend([7; 32]);
        answer.extend([0, 0xC0, 0x13, 0]);
        stream.write_all(&answer).await.unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        said
    });
    let mut source = source(
        &tls_config(address, &hub, ", server_name = \"plc.example\""),
        0..1,
    );
    let error = source.connect().await.unwrap_err().to_string();
    assert!(error.contains("TLS handshake"), "{error}");
    // A fatal alert, protocol_version (RFC 8446, 6.2).
    let said = device.await.unwrap();
    assert_eq!(said.first(), Some(&21), "{said:?}");
    assert_eq!(said.get(5..), Some(&[2, 70][..]), "{said:?}");
}
