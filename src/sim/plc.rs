//! The cell's PLC: a conveyor, a pneumatic and a coolant circuit. Its process values are stationary
//! with noise, which is what control charts are made for.

use super::noise::Noise;
use super::signal::{Signal, SignalKind, discrete, measurement};
use crate::model::Value;

/// What the PLC knows at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct PlcState {
    /// Speed of the conveyor, m/s.
    pub conveyor_speed: f64,
    /// Pressure of the pneumatic supply, bar.
    pub pressure: f64,
    /// Coolant flow, l/min.
    pub flow: f64,
    /// Level of the coolant tank, %.
    pub tank_level: f64,
    /// Current of the conveyor's motor, A.
    pub motor_current: f64,
    /// Temperature of the coolant, °C.
    pub coolant_temperature: f64,
    /// Parts that passed the light barrier.
    pub part_count: u32,
    /// 0 stopped, 1 running.
    pub mode: u16,
    /// Both buttons of the two-hand control are pressed.
    pub two_hand_control: bool,
    /// The light curtain is free.
    pub light_curtain: bool,
}

/// Number of the PLC's signals.
pub const PLC_SIGNALS: usize = 10;

static SIGNALS: [Signal; PLC_SIGNALS] = [
    measurement("conveyor_speed", "m/s", "speed of the conveyor", 0.0, 2.0),
    measurement("pressure", "bar", "pneumatic supply", 0.0, 10.0),
    measurement("flow", "l/min", "coolant flow", 0.0, 50.0),
    measurement("tank_level", "%", "level of the coolant tank", 0.0, 100.0),
    measurement(
        "motor_current",
        "A",
        "current of the conveyor's motor",
        0.0,
        20.0,
    ),
    measurement("coolant_temperature", "°C", "coolant", -10.0, 90.0),
    discrete(
        "part_count",
        "",
        "parts past the light barrier",
        SignalKind::U32,
    ),
    discrete("mode", "", "0 stopped, 1 running", SignalKind::U16),
    discrete(
        "two_hand_control",
        "",
        "both buttons pressed",
        SignalKind::Bool,
    ),
    discrete("light_curtain", "", "light curtain free", SignalKind::Bool),
];

impl PlcState {
    /// The PLC's signals, in the order of [`values`](Self::values).
    pub fn signals() -> &'static [Signal] {
        &SIGNALS
    }

    /// The value of every signal.
    pub fn values(&self) -> [Value; PLC_SIGNALS] {
        [
            Value::F64(self.conveyor_speed),
            Value::F64(self.pressure),
            Value::F64(self.flow),
            Value::F64(self.tank_level),
            Value::F64(self.motor_current),
            Value::F64(self.coolant_temperature),
            Value::U64(self.part_count.into()),
            Value::U64(self.mode.into()),
            Value::Bool(self.two_hand_control),
            Value::Bool(self.light_curtain),
        ]
    }
}

/// Seconds between two parts on the conveyor.
const PART_INTERVAL: f64 = 3.5;
/// Every so many seconds an operator loads a tray: both hands on the buttons, curtain interrupted.
const LOADING_INTERVAL: f64 = 45.0;
/// How long that takes, seconds.
const LOADING_TIME: f64 = 4.0;

/// The PLC and the process behind it. The run of a seed is always the same for the same steps.
#[derive(Clone, Debug)]
pub struct PlcModel {
    name: String,
    noise: Noise,
    last_step: f64,
    next_part: f64,
    state: PlcState,
}

impl PlcModel {
    /// A PLC whose process is in its steady state.
    pub fn new(name: impl Into<String>, seed: u64) -> Self {
        let mut model = Self {
            name: name.into(),
            noise: Noise::new(seed),
            last_step: 0.0,
            next_part: PART_INTERVAL,
            state: PlcState {
                conveyor_speed: 0.0,
                pressure: 0.0,
                flow: 0.0,
                tank_level: 0.0,
                motor_current: 0.0,
                coolant_temperature: 0.0,
                part_count: 0,
                mode: 1,
                two_hand_control: false,
                light_curtain: true,
            },
        };
        model.step(0.0);
        model
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it measures now, that is after the newest step.
    pub fn state(&self) -> &PlcState {
        &self.state
    }

    /// Goes on to `t`, seconds since its start. Time going back changes nothing but the noise.
    pub fn step(&mut self, t: f64) {
        let t = t.max(self.last_step);
        self.last_step = t;
        if t >= self.next_part {
            let parts = ((t - self.next_part) / PART_INTERVAL).floor() + 1.0;
            self.state.part_count = self.state.part_count.wrapping_add(parts as u32);
            self.next_part += parts * PART_INTERVAL;
        }
        let loading = t % LOADING_INTERVAL > LOADING_INTERVAL - LOADING_TIME;
        self.state.two_hand_control = loading;
        self.state.light_curtain = !loading;

        let mut about = |mean: f64, deviation: f64| mean + deviation * self.noise.gaussian();
        self.state.conveyor_speed = about(0.40, 0.004);
        self.state.pressure = about(6.0, 0.03);
        self.state.flow = about(12.0, 0.15);
        self.state.tank_level = about(72.0, 0.25);
        self.state.motor_current = about(3.2, 0.05);
        self.state.coolant_temperature = about(21.0, 0.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_process_is_stationary_and_its_counter_counts() {
        let mut plc = PlcModel::new("plc", 11);
        let mut means = [0.0; 2];
        for i in 0..4000 {
            plc.step(f64::from(i) * 0.1);
            means[usize::from(i >= 2000)] += plc.state().pressure / 2000.0;
            for (signal, value) in PlcState::signals().iter().zip(plc.state().values()) {
                if let (Some((low, high)), Value::F64(x)) = (signal.range(), value) {
                    assert!(low <= x && x <= high, "{} is {x}", signal.name);
                }
            }
        }
        assert!((means[0] - means[1]).abs() < 0.005, "{means:?}");
        assert_eq!(plc.state().part_count, (399.9 / PART_INTERVAL) as u32);
    }

    #[test]
    fn the_light_curtain_is_interrupted_while_a_tray_is_loaded() {
        let mut plc = PlcModel::new("plc", 11);
        plc.step(10.0);
        assert!(plc.state().light_curtain && !plc.state().two_hand_control);
        plc.step(43.0);
        assert!(!plc.state().light_curtain && plc.state().two_hand_control);
    }
}
