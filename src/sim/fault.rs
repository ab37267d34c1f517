//! What goes wrong with machines, to be switched on and off while they run.

use super::signal::{Signal, SignalKind};
use crate::model::Value;
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::watch;

/// A thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// A sensor's reading creeps away.
    Drift {
        /// Shares of the signal's range a second.
        per_second: f64,
    },
    /// A sensor repeats the value it had.
    Stuck,
    /// A sensor's reading jumps now and then.
    Spike {
        /// Seconds from one spike to the next. A spike lasts a tenth of it.
        every: f64,
        /// Height, in shares of the signal's range.
        size: f64,
    },
    /// The device drops its connections and refuses new ones.
    Disconnect,
    /// The device answers bytes that break the protocol. (Over OPC UA, whose frames the stack
    /// builds, the connection breaks instead.)
    CorruptFrame,
    /// A sensor reads not-a-number.
    NotANumber,
}

/// A fault that cannot be read from text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultParseError {
    /// No such fault.
    #[error("there is no fault {0:?}; there are drift, stuck, spike, disconnect, corrupt and nan")]
    Unknown(String),
    /// Not DEVICE:FAULT.
    #[error(
        "{0:?} names no fault; write DEVICE[/SIGNAL]:FAULT[=SIZE][@SECONDSs], as in robot-1:drift@30s"
    )]
    Shape(String),
    /// A number that is none.
    #[error("{0:?} is not a positive number")]
    Number(String),
}

impl FromStr for Fault {
    type Err = FaultParseError;

    /// `drift[=SHARE_PER_SECOND]`, `stuck`, `spike[=SHARE]`, `disconnect`, `corrupt`, `nan`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, size) = match text.split_once('=') {
            Some((name, size)) => (name, Some(positive(size)?)),
            None => (text, None),
        };
        match (name, size) {
            ("drift", size) => Ok(Self::Drift {
                per_second: size.unwrap_or(0.005),
            }),
            ("spike", size) => Ok(Self::Spike {
                every: 2.0,
                size: size.unwrap_or(0.3),
            }),
            ("stuck", None) => Ok(Self::Stuck),
            ("disconnect", None) => Ok(Self::Disconnect),
            ("corrupt" | "corrupt-frame", None) => Ok(Self::CorruptFrame),
            ("nan", None) => Ok(Self::NotANumber),
            _ => Err(FaultParseError::Unknown(text.into())),
        }
    }
}

fn positive(text: &str) -> Result<f64, FaultParseError> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err(FaultParseError::Number(text.into())),
    }
}

/// A fault, the device it strikes, and when: `robot-1/joint2_current:drift=0.01@30s`.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedFault {
    /// The device.
    pub device: String,
    /// The signal, or the device's first warm one when none is named.
    pub signal: Option<String>,
    /// What goes wrong.
    pub fault: Fault,
    /// Seconds after the start.
    pub after: f64,
}

impl FromStr for PlannedFault {
    type Err = FaultParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (target, rest) = text
            .split_once(':')
            .filter(|(target, rest)| !target.is_empty() && !rest.is_empty())
            .ok_or_else(|| FaultParseError::Shape(text.into()))?;
        let (fault, after) = match rest.split_once('@') {
            Some((fault, after)) => (fault, positive(after.trim_end_matches('s'))?),
            None => (rest, 0.0),
        };
        let (device, signal) = match target.split_once('/') {
            Some((device, signal)) => (device, Some(signal.to_string())),
            None => (target, None),
        };
        Ok(Self {
            device: device.into(),
            signal,
            fault: fault.parse()?,
            after,
        })
    }
}

/// A fault that is on, and the signal it strikes where it strikes one.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveFault {
    /// What goes wrong.
    pub fault: Fault,
    /// The signal; `None` is the device's own choice, see [`Distortion::apply`].
    pub signal: Option<Arc<str>>,
}

/// Turns a device's fault on and off. Clones are the same switch.
#[derive(Clone, Debug)]
pub struct FaultSwitch {
    active: Arc<watch::Sender<Option<ActiveFault>>>,
}

impl Default for FaultSwitch {
    fn default() -> Self {
        Self {
            active: Arc::new(watch::Sender::new(None)),
        }
    }
}

impl FaultSwitch {
    /// Turns `fault` on, in place of the one before; `signal` names the sensor it strikes.
    pub fn set(&self, fault: Fault, signal: Option<&str>) {
        let signal = signal.map(Arc::from);
        self.active
            .send_replace(Some(ActiveFault { fault, signal }));
    }

    /// Turns it off.
    pub fn clear(&self) {
        self.active.send_replace(None);
    }

    /// The fault that is on.
    pub fn active(&self) -> Option<ActiveFault> {
        self.active.borrow().clone()
    }

    /// Whether the device is to be unreachable now.
    pub fn disconnects(&self) -> bool {
        self.is(|f| matches!(f, Fault::Disconnect))
    }

    /// Whether the device is to answer rubbish now.
    pub fn corrupts(&self) -> bool {
        self.is(|f| matches!(f, Fault::CorruptFrame))
    }

    fn is(&self, test: impl Fn(&Fault) -> bool) -> bool {
        self.active
            .borrow()
            .as_ref()
            .is_some_and(|a| test(&a.fault))
    }

    /// Wakes whenever the switch is thrown, so that a server can drop its connections at once.
    pub fn changes(&self) -> watch::Receiver<Option<ActiveFault>> {
        self.active.subscribe()
    }
}

/// What a sensor fault does to a device's readings; it remembers since when and from which value.
#[derive(Clone, Debug, Default)]
pub struct Distortion {
    running: Option<(ActiveFault, f64, f64)>,
}

impl Distortion {
    /// Changes the reading that `active` strikes, at `t` seconds. A fault without a named signal
    /// strikes the first temperature, or else the first measurement: a robot's positions and
    /// currents move too much for a fault to be seen by eye.
    pub fn apply(
        &mut self,
        active: Option<&ActiveFault>,
        t: f64,
        signals: &[Signal],
        values: &mut [Value],
    ) {
        let Some(active) = active else {
            self.running = None;
            return;
        };
        let is_struck = |s: &Signal| match &active.signal {
            Some(name) => **name == *s.name,
            None => Some(s.name) == favourite(signals),
        };
        let at = signals.iter().position(is_struck);
        let struck = at.and_then(|at| Some((signals.get(at)?.kind, values.get_mut(at)?)));
        let Some((SignalKind::F32 { low, high }, Value::F64(value))) = struck else {
            return;
        };
        let span = high - low;
        if self
            .running
            .as_ref()
            .is_none_or(|(fault, ..)| fault != active)
        {
            self.running = Some((active.clone(), t, *value));
        }
        let Some((_, since, held)) = &self.running else {
            return;
        };
        let age = (t - since).max(0.0);
        match active.fault {
            Fault::Drift { per_second } => *value += span * per_second * age,
            Fault::Stuck => *value = *held,
            Fault::Spike { every, size } if age % every < every / 10.0 => *value += span * size,
            Fault::NotANumber => *value = f64::NAN,
            Fault::Spike { .. } | Fault::Disconnect | Fault::CorruptFrame => {}
        }
    }
}

/// The signal that a fault strikes when none is named.
fn favourite(signals: &[Signal]) -> Option<&'static str> {
    let measured = |s: &&Signal| matches!(s.kind, SignalKind::F32 { .. });
    let warm = signals.iter().find(|s| s.unit == "°C" && measured(s));
    warm.or_else(|| signals.iter().find(measured))
        .map(|s| s.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::signal::measurement;

    #[test]
    fn faults_are_read_from_text() {
        let planned: PlannedFault = "robot-1/joint2_current:drift=0.01@30s".parse().unwrap();
        assert_eq!(planned.device, "robot-1");
        assert_eq!(planned.signal.as_deref(), Some("joint2_current"));
        assert_eq!(planned.fault, Fault::Drift { per_second: 0.01 });
        assert_eq!(planned.after, 30.0);
        let plain: PlannedFault = "plc-1:nan".parse().unwrap();
        assert_eq!((plain.fault, plain.after), (Fault::NotANumber, 0.0));
        for bad in [
            "plc-1",
            ":nan",
            "plc-1:",
            "plc-1:boom",
            "plc-1:drift=x",
            "plc-1:nan@-3s",
            "p:stuck=1",
        ] {
            assert!(bad.parse::<PlannedFault>().is_err(), "{bad} was read");
        }
    }

    #[test]
    fn each_sensor_fault_does_what_it_says_and_ends_when_it_is_off() {
        let signals = [
            measurement("position", "rad", "", -3.0, 3.0),
            measurement("temperature", "°C", "", 0.0, 100.0),
        ];
        let mut distortion = Distortion::default();
        let mut read = |fault: Option<Fault>, t: f64, x: f64| {
            let active = fault.map(|fault| ActiveFault {
                fault,
                signal: None,
            });
            let mut values = [Value::F64(1.0), Value::F64(x)];
            distortion.apply(active.as_ref(), t, &signals, &mut values);
            assert_eq!(values[0], Value::F64(1.0));
            match values[1] {
                Value::F64(x) => x,
                _ => unreachable!(),
            }
        };
        let drift = Some(Fault::Drift { per_second: 0.01 });
        assert_eq!(read(drift, 5.0, 50.0), 50.0);
        assert_eq!(read(drift, 15.0, 50.0), 60.0);
        assert_eq!(read(None, 16.0, 50.0), 50.0);
        assert_eq!(read(Some(Fault::Stuck), 17.0, 51.0), 51.0);
        assert_eq!(read(Some(Fault::Stuck), 18.0, 49.0), 51.0);
        let spike = Some(Fault::Spike {
            every: 2.0,
            size: 0.3,
        });
        assert_eq!(read(spike, 20.0, 50.0), 80.0);
        assert_eq!(read(spike, 21.0, 50.0), 50.0);
        assert_eq!(read(spike, 22.1, 50.0), 80.0);
        assert!(read(Some(Fault::NotANumber), 23.0, 50.0).is_nan());
        assert_eq!(read(Some(Fault::Disconnect), 24.0, 50.0), 50.0);
    }

    #[tokio::test]
    async fn a_thrown_switch_wakes_who_waits() {
        let switch = FaultSwitch::default();
        let mut changes = switch.changes();
        let same = switch.clone();
        same.set(Fault::Disconnect, None);
        changes.changed().await.unwrap();
        assert!(switch.disconnects() && !switch.corrupts());
        same.clear();
        assert_eq!(switch.active(), None);
    }
}
