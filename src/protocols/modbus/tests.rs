//! The source against devices that behave, and against devices that do not.

use super::bus::Bus;
use super::config::ModbusConfig;
use super::link::{Link, Station};
use super::plan::{ReadRequest, Span};
use super::point::{DataType, ModbusPoint, Table};
use super::source::{ModbusConfigError, ModbusSource};
use super::transport::Endpoint;
use crate::model::{Batch, BatchBuilder, Quality, TagSpec, Value};
use crate::protocols::source::{Source, SourceError};
use proptest::prelude::*;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// A read request as it came over the wire.
#[derive(Clone, Copy, Debug)]
struct Ask {
    /// Counted from 0 over the fake's whole life.
    connection: usize,
    transaction: [u8; 2],
    unit: u8,
    function: u8,
    address: u16,
    count: u16,
}

impl Ask {
    fn frame(&self, pdu: &[u8]) -> Vec<u8> {
        let length = (pdu.len() + 1) as u16;
        let mut frame = vec![self.transaction[0], self.transaction[1], 0, 0];
        frame.extend(length.to_be_bytes());
        frame.push(self.unit);
        frame.extend(pdu);
        frame
    }

    fn exception(&self, code: u8) -> Act {
        Act::Send(self.frame(&[self.function | 0x80, code]))
    }

    fn words(&self, words: impl IntoIterator<Item = u16>) -> Act {
        let bytes: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
        let pdu = [&[self.function, bytes.len() as u8], &bytes[..]].concat();
        Act::Send(self.frame(&pdu))
    }

    /// A device whose registers hold their own address, and of whose bits every third is on.
    fn good(&self) -> Act {
        let cells = (0..self.count).map(|i| self.address + i);
        if self.function > 2 {
            return self.words(cells);
        }
        let mut bytes = vec![0u8; usize::from(self.count).div_ceil(8)];
        for (i, cell) in cells.enumerate() {
            bytes[i / 8] |= u8::from(cell % 3 == 0) << (i % 8);
        }
        Act::Send(self.frame(&[&[self.function, bytes.len() as u8], &bytes[..]].concat()))
    }
}

enum Act {
    Send(Vec<u8>),
    /// Sends when it is notified.
    Hold(Arc<Notify>, Vec<u8>),
    Close,
}

/// A device that answers as `script` says.
async fn fake(script: impl Fn(Ask) -> Act + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(script);
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let script = script.clone();
            tokio::spawn(async move {
                let mut request = [0; 12];
                while stream.read_exact(&mut request).await.is_ok() {
                    let [t0, t1, 0, 0, 0, 6, unit, function, a0, a1, c0, c1] = request else {
                        panic!("{request:?} is no read request");
                    };
                    let act = script(Ask {
                        connection,
                        transaction: [t0, t1],
                        unit,
                        function,
                        address: u16::from_be_bytes([a0, a1]),
                        count: u16::from_be_bytes([c0, c1]),
                    });
                    match act {
                        Act::Send(bytes) => stream.write_all(&bytes).await.unwrap(),
                        Act::Hold(gate, bytes) => {
                            gate.notified().await;
                            // Whoever asked may be gone.
                            let _ = stream.write_all(&bytes).await;
                        }
                        Act::Close => return,
                    }
                }
            });
        }
    });
    address
}

fn config(address: SocketAddr) -> ModbusConfig {
    let mut config = ModbusConfig::new(Endpoint::from(address));
    config.period_ms = 0.try_into().unwrap();
    config
}

fn tag(name: &str, point: &ModbusPoint) -> TagSpec {
    TagSpec {
        writable: false,
        name: name.into(),
        kind: point.value_kind(),
        unit: String::new(),
        description: String::new(),
        range: None,
    }
}

fn registers(addresses: impl IntoIterator<Item = u16>) -> Vec<(TagSpec, ModbusPoint)> {
    let register = |a: u16| {
        let point = ModbusPoint::new(Table::HoldingRegister, a, DataType::U16).unwrap();
        (tag(&format!("r{a}"), &point), point)
    };
    addresses.into_iter().map(register).collect()
}

/// A connected source of `points` and a builder for what it reads.
async fn source(
    config: ModbusConfig,
    points: Vec<(TagSpec, ModbusPoint)>,
) -> (ModbusSource, BatchBuilder) {
    let mut source = ModbusSource::new("plc".into(), config, points).unwrap();
    source.connect().await.unwrap();
    let builder = BatchBuilder::scanning("plc".into(), source.tags());
    (source, builder)
}

fn column(batch: &Batch, index: usize) -> Vec<(Value, Quality)> {
    let column = &batch.columns[index];
    (0..column.values.len())
        .map(|i| (column.values.get(i).unwrap(), column.quality.get(i)))
        .collect()
}

#[tokio::test]
async fn all_four_tables_are_read_in_order_of_the_tags() {
    let address = fake(|ask| {
        assert_eq!(ask.unit, 17);
        ask.good()
    })
    .await;
    let points = [
        (Table::InputRegister, 300, DataType::U32),
        (Table::Coil, 6, DataType::Bool),
        (Table::HoldingRegister, 40, DataType::U16),
        (Table::DiscreteInput, 10, DataType::Bool),
        (Table::Coil, 5, DataType::Bool),
    ]
    .map(|(table, address, data)| {
        let point = ModbusPoint::new(table, address, data).unwrap();
        (tag(&format!("{table} {address}"), &point), point)
    });
    let mut config = config(address);
    config.unit_id = 17;
    let (mut source, mut out) = source(config, points.to_vec()).await;
    source.read(&mut out).await.unwrap();
    source.read(&mut out).await.unwrap();
    source.close().await;
    let batch = out.take(1, 1).unwrap();
    let expected = [
        Value::U64(300 << 16 | 301),
        Value::Bool(true),
        Value::U64(40),
        Value::Bool(false),
        Value::Bool(false),
    ];
    for (index, value) in expected.into_iter().enumerate() {
        let good = (value, Quality::GOOD);
        assert_eq!(column(&batch, index), [good.clone(), good], "tag {index}");
    }
    assert!(batch.timelines[0][0] <= batch.timelines[0][1]);
}

#[tokio::test]
async fn a_refused_register_is_bad_and_the_others_go_on() {
    let address = fake(|ask| {
        let end = ask.address + ask.count;
        if (ask.address..end).contains(&7) {
            return ask.exception(2);
        }
        ask.good()
    })
    .await;
    let (mut source, mut out) = source(config(address), registers(0..20)).await;
    for _ in 0..3 {
        source.read(&mut out).await.unwrap();
    }
    let batch = out.take(1, 1).unwrap();
    for register in 0..20 {
        let samples = column(&batch, register);
        assert_eq!(samples.len(), 3);
        for (value, quality) in samples {
            match register {
                7 => assert!(quality.is_bad()),
                _ => assert_eq!(
                    (value, quality),
                    (Value::U64(register as u64), Quality::GOOD)
                ),
            }
        }
    }
}

/// What reading says when the device answers with `script`, and whether anything was written.
async fn failure(script: impl Fn(Ask) -> Act + Send + Sync + 'static) -> (SourceError, usize) {
    let address = fake(script).await;
    let mut config = config(address);
    config.timeout_ms = 50.try_into().unwrap();
    let (mut source, mut out) = source(config, registers(0..200)).await;
    let error = source.read(&mut out).await.unwrap_err();
    // After an error there is no connection to read from.
    assert!(matches!(
        source.read(&mut out).await,
        Err(SourceError::Unreachable { .. })
    ));
    (error, out.samples())
}

#[tokio::test]
async fn a_half_scan_is_never_written() {
    let (error, written) = failure(|ask| match ask.address {
        0 => ask.good(),
        _ => Act::Close,
    })
    .await;
    assert!(
        error.to_string().contains("closed the connection"),
        "{error}"
    );
    assert_eq!(written, 0);
}

#[tokio::test]
async fn answers_that_are_not_modbus_are_named() {
    for (bytes, said) in [
        (&b"220 mail.example ESMTP\r\n"[..], "protocol id"),
        (&[0, 0, 0, 0, 0xff, 0xff, 1, 3], "frame length"),
        (&[0, 0, 0, 0, 0, 0], "frame length"),
    ] {
        let (error, written) = failure(|_| Act::Send(bytes.to_vec())).await;
        assert!(matches!(error, SourceError::Protocol { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(written, 0);
    }
}

#[tokio::test]
async fn an_answer_to_another_question_breaks_the_connection() {
    let other_transaction = |mut ask: Ask| {
        ask.transaction[0] ^= 1;
        ask.good()
    };
    let other_unit = |mut ask: Ask| {
        ask.unit += 1;
        ask.good()
    };
    let other_function = |mut ask: Ask| {
        ask.function = 4;
        ask.good()
    };
    let fewer = |ask: Ask| ask.words(0..ask.count - 1);
    let more = |mut ask: Ask| {
        ask.count += 1;
        ask.words(0..ask.count)
    };
    let none = |ask: Ask| Act::Send(ask.frame(&[3, 0]));
    let scripts: [fn(Ask) -> Act; 6] = [
        other_transaction,
        other_unit,
        other_function,
        fewer,
        more,
        none,
    ];
    for (index, script) in scripts.into_iter().enumerate() {
        let (error, written) = failure(script).await;
        assert!(
            matches!(error, SourceError::Protocol { .. }),
            "{index}: {error}"
        );
        assert_eq!(written, 0, "{index}");
    }
}

#[tokio::test]
async fn too_few_coils_break_the_connection() {
    let address = fake(|ask| Act::Send(ask.frame(&[1, 1, 0xff]))).await;
    let coil = |a| ModbusPoint::new(Table::Coil, a, DataType::Bool).unwrap();
    let coils = (0..9).map(|a| (tag(&format!("c{a}"), &coil(a)), coil(a)));
    let (mut source, mut out) = source(config(address), coils.collect()).await;
    let error = source.read(&mut out).await.unwrap_err();
    assert!(
        error.to_string().contains("8 values came for 9 coils"),
        "{error}"
    );
}

#[tokio::test]
async fn a_silent_device_times_out_and_a_late_answer_is_never_taken() {
    // The first connection's answer comes when the second one asks.
    let gate = Arc::new(Notify::new());
    let address = fake(move |ask| match ask.connection {
        0 => match ask.words([98, 99]) {
            Act::Send(bytes) => Act::Hold(gate.clone(), bytes),
            other => other,
        },
        _ => {
            gate.notify_one();
            ask.good()
        }
    })
    .await;
    let mut config = config(address);
    config.timeout_ms = 30.try_into().unwrap();
    let (mut source, mut out) = source(config, registers(5..7)).await;
    let error = source.read(&mut out).await.unwrap_err();
    assert!(
        matches!(
            error,
            SourceError::Timeout {
                milliseconds: 30,
                ..
            }
        ),
        "{error}"
    );
    source.connect().await.unwrap();
    source.read(&mut out).await.unwrap();
    let batch = out.take(1, 1).unwrap();
    assert_eq!(column(&batch, 0), [(Value::U64(5), Quality::GOOD)]);
}

#[tokio::test]
async fn a_gateway_without_its_device_is_an_unreachable_device() {
    let (error, _) = failure(|ask| ask.exception(0x0b)).await;
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("gateway"), "{error}");
}

#[tokio::test]
async fn nobody_there_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut source = ModbusSource::new("plc".into(), config(address), registers(0..1)).unwrap();
    let error = source.connect().await.unwrap_err();
    assert!(
        error.to_string().contains("nothing listens there"),
        "{error}"
    );
}

#[tokio::test]
async fn whoever_stops_waiting_loses_nothing() {
    let asked = Arc::new(AtomicUsize::new(0));
    let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (count, start, gate) = (asked.clone(), started.clone(), release.clone());
    let address = fake(move |ask| {
        count.fetch_add(1, Ordering::SeqCst);
        start.notify_one();
        match ask.good() {
            Act::Send(bytes) => Act::Hold(gate.clone(), bytes),
            other => other,
        }
    })
    .await;
    let (mut source, mut out) = source(config(address), registers(3..4)).await;
    tokio::select! {
        result = source.read(&mut out) => panic!("read ended early: {result:?}"),
        () = started.notified() => {}
    }
    assert_eq!(out.samples(), 0);
    release.notify_one();
    source.read(&mut out).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let batch = out.take(1, 1).unwrap();
    assert_eq!(column(&batch, 0), [(Value::U64(3), Quality::GOOD)]);
}

#[test]
fn what_cannot_be_read_is_refused_at_the_start() {
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let none = ModbusSource::new("plc".into(), config(address), Vec::new());
    assert!(matches!(none.err(), Some(ModbusConfigError::NoTags { .. })));

    let text = ModbusPoint::new(Table::HoldingRegister, 0, DataType::Text(39)).unwrap();
    let mut narrow = config(address);
    narrow.max_registers = 16.try_into().unwrap();
    let wide = ModbusSource::new("plc".into(), narrow, vec![(tag("name", &text), text)]);
    let error = wide.err().unwrap();
    assert!(
        error.to_string().contains("takes 20 holding registers"),
        "{error}"
    );

    let [(mut tag, point)] = registers(0..1).try_into().unwrap();
    tag.kind = crate::model::ValueKind::F64;
    let other = ModbusSource::new("plc".into(), config(address), vec![(tag, point)]);
    assert!(matches!(other.err(), Some(ModbusConfigError::Kind { .. })));
}

fn one_request(table: Table, count: u16) -> ReadRequest {
    let span = Span {
        point: 0,
        table,
        address: 0,
        width: count,
    };
    ReadRequest {
        table,
        address: 0,
        count,
        spans: vec![span],
    }
}

/// Asks for `count` cells of `table` where `answer` is all that ever comes back.
fn read_bytes(table: Table, count: u16, answer: &[u8]) -> Option<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let config = config(address);
        let station = Station {
            unit_id: 1,
            timeout: config.timeout(),
            delay: std::time::Duration::ZERO,
        };
        let bus = Bus::with(Link::tcp(ours, address.to_string()), &config);
        let request = one_request(table, count);
        let device = async {
            let mut asked = [0; 12];
            theirs.read_exact(&mut asked).await.unwrap();
            theirs.write_all(answer).await.unwrap();
            drop(theirs);
        };
        let (read, ()) = tokio::join!(bus.read(&station, &request), device);
        read.ok()?.ok().map(|reply| match reply {
            super::decode::Reply::Bits(bits) => bits.len(),
            super::decode::Reply::Words(words) => words.len(),
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_from_a_device_make_the_hub_fall(
        answer in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        prop_assert_eq!(read_bytes(Table::HoldingRegister, 10, &answer), None);
    }

    /// A proper header, so that the bytes reach the decoder of the answer itself.
    #[test]
    fn no_answer_in_a_proper_frame_makes_the_hub_fall(
        table in prop_oneof![Just(Table::Coil), Just(Table::InputRegister)],
        function in prop_oneof![Just(1u8), Just(4), Just(0x81), Just(0x84), Just(43), any::<u8>()],
        body in prop::collection::vec(any::<u8>(), 0..252),
        count in 1u16..=125,
    ) {
        let length = body.len() as u8 + 2;
        let answer = [&[0, 0, 0, 0, 0, length, 1, function], &body[..]].concat();
        if let Some(got) = read_bytes(table, count, &answer) {
            prop_assert_eq!(got, usize::from(count));
        }
    }
}
