//! A six-axis robot that picks parts and places them, over and over: joint positions from a motion
//! cycle, motor currents from gravity, acceleration and friction, and temperatures that follow the
//! currents slowly.

use super::noise::Noise;
use super::signal::{Signal, SignalKind, discrete, measurement};
use crate::model::Value;

/// Number of axes.
pub const JOINTS: usize = 6;

/// Ambient temperature, °C.
const AMBIENT: f64 = 22.0;
/// Time constant of a joint's warming, seconds.
const THERMAL_TIME_CONSTANT: f64 = 900.0;
/// Reach of the arm, metres: turns axis speeds into the speed of the tool.
const REACH: [f64; JOINTS] = [0.9, 0.8, 0.5, 0.2, 0.15, 0.0];
/// How much a joint warms, °C for each A².
const WARMING: [f64; JOINTS] = [12.0, 2.2, 3.4, 60.0, 45.0, 90.0];
/// Current that holds the arm against gravity, A, at full stretch.
const GRAVITY: [f64; JOINTS] = [0.0, 3.4, 2.4, 0.3, 0.4, 0.0];
/// Current for each rad/s² of acceleration, A.
const INERTIA: [f64; JOINTS] = [0.55, 0.50, 0.40, 0.25, 0.20, 0.15];
/// Current that overcomes friction in motion, A.
const FRICTION: [f64; JOINTS] = [0.7, 0.6, 0.5, 0.4, 0.4, 0.3];

/// What the program is doing, as the controller's code word says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ProgramState {
    /// Waiting above the feeder.
    Idle = 0,
    /// Going down to the part.
    Approach = 1,
    /// Closing the gripper.
    Pick = 2,
    /// Carrying the part.
    Move = 3,
    /// Setting it down.
    Place = 4,
    /// Going back, empty.
    Return = 5,
}

/// A stretch of the cycle: what the program does, which fraction of the cycle it takes, and the joint
/// positions it ends in (rad).
struct Phase {
    state: ProgramState,
    share: f64,
    end: [f64; JOINTS],
    gripping: bool,
}

const HOME: [f64; JOINTS] = [0.0, -1.20, 1.60, 0.0, 1.10, 0.0];
const FEEDER: [f64; JOINTS] = [0.0, -0.85, 1.75, 0.0, 0.70, 0.0];
const TRAY: [f64; JOINTS] = [1.57, -0.80, 1.65, 0.25, 0.75, 1.57];

const PHASES: [Phase; 6] = [
    phase(ProgramState::Idle, 0.06, HOME, false),
    phase(ProgramState::Approach, 0.16, FEEDER, false),
    phase(ProgramState::Pick, 0.08, FEEDER, true),
    phase(ProgramState::Move, 0.34, TRAY, true),
    phase(ProgramState::Place, 0.08, TRAY, false),
    phase(ProgramState::Return, 0.28, HOME, false),
];

const fn phase(state: ProgramState, share: f64, end: [f64; JOINTS], gripping: bool) -> Phase {
    Phase {
        state,
        share,
        end,
        gripping,
    }
}

/// What the controller knows of itself at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct RobotState {
    /// Joint positions, rad.
    pub positions: [f64; JOINTS],
    /// Motor currents, A; negative when the motor brakes.
    pub currents: [f64; JOINTS],
    /// Motor temperatures, °C.
    pub temperatures: [f64; JOINTS],
    /// Speed of the tool's centre point, m/s.
    pub tcp_speed: f64,
    /// Voltage of the control supply, V.
    pub supply_voltage: f64,
    /// Duration of the newest complete cycle, s.
    pub cycle_time: f64,
    /// Complete cycles.
    pub cycle_count: u32,
    /// Parts set down; a missed grip gives a cycle without a part.
    pub part_count: u32,
    /// What the program is doing.
    pub state: ProgramState,
    /// Whether the gripper is closed.
    pub gripper: bool,
}

/// Number of a robot's signals.
pub const ROBOT_SIGNALS: usize = 3 * JOINTS + 7;

const POSITION: &str = "position of the joint";
const CURRENT: &str = "current of the joint's motor";
const TEMPERATURE: &str = "temperature of the joint's motor";

const fn position(name: &'static str) -> Signal {
    measurement(name, "rad", POSITION, -6.4, 6.4)
}

const fn current(name: &'static str) -> Signal {
    measurement(name, "A", CURRENT, -30.0, 30.0)
}

const fn temperature(name: &'static str) -> Signal {
    measurement(name, "°C", TEMPERATURE, -20.0, 120.0)
}

static SIGNALS: [Signal; ROBOT_SIGNALS] = [
    position("joint1_position"),
    position("joint2_position"),
    position("joint3_position"),
    position("joint4_position"),
    position("joint5_position"),
    position("joint6_position"),
    current("joint1_current"),
    current("joint2_current"),
    current("joint3_current"),
    current("joint4_current"),
    current("joint5_current"),
    current("joint6_current"),
    temperature("joint1_temperature"),
    temperature("joint2_temperature"),
    temperature("joint3_temperature"),
    temperature("joint4_temperature"),
    temperature("joint5_temperature"),
    temperature("joint6_temperature"),
    measurement(
        "tcp_speed",
        "m/s",
        "speed of the tool's centre point",
        -0.5,
        10.0,
    ),
    measurement("supply_voltage", "V", "control supply", 0.0, 36.0),
    measurement("cycle_time", "s", "duration of the newest cycle", 0.0, 60.0),
    discrete("cycle_count", "", "complete cycles", SignalKind::U32),
    discrete("part_count", "", "parts set down", SignalKind::U32),
    discrete(
        "state",
        "",
        "0 idle, 1 approach, 2 pick, 3 move, 4 place, 5 return",
        SignalKind::U16,
    ),
    discrete("gripper", "", "gripper closed", SignalKind::Bool),
];

impl RobotState {
    /// A robot's signals, in the order of [`values`](Self::values).
    pub fn signals() -> &'static [Signal] {
        &SIGNALS
    }

    /// The value of every signal.
    pub fn values(&self) -> [Value; ROBOT_SIGNALS] {
        let joints = [self.positions, self.currents, self.temperatures];
        std::array::from_fn(|i| match (joints.get(i / JOINTS), i - i.min(3 * JOINTS)) {
            (Some(row), _) => Value::F64(row[i % JOINTS]),
            (None, 0) => Value::F64(self.tcp_speed),
            (None, 1) => Value::F64(self.supply_voltage),
            (None, 2) => Value::F64(self.cycle_time),
            (None, 3) => Value::U64(self.cycle_count.into()),
            (None, 4) => Value::U64(self.part_count.into()),
            (None, 5) => Value::U64(self.state as u64),
            (None, _) => Value::Bool(self.gripper),
        })
    }
}

/// A robot and its program. The run of a seed is always the same for the same steps.
#[derive(Clone, Debug)]
pub struct RobotModel {
    name: String,
    noise: Noise,
    nominal_cycle: f64,
    cycle_start: f64,
    cycle_length: f64,
    part_gripped: bool,
    part_counted: bool,
    last_step: f64,
    true_temperatures: [f64; JOINTS],
    state: RobotState,
}

impl RobotModel {
    /// A cold robot at the beginning of its first cycle. Its cycle takes 6 to 8 s, by the seed.
    pub fn new(name: impl Into<String>, seed: u64) -> Self {
        let mut noise = Noise::new(seed);
        let nominal_cycle = 6.0 + 2.0 * noise.uniform();
        let state = RobotState {
            positions: HOME,
            currents: [0.0; JOINTS],
            temperatures: [AMBIENT; JOINTS],
            tcp_speed: 0.0,
            supply_voltage: 24.0,
            cycle_time: nominal_cycle,
            cycle_count: 0,
            part_count: 0,
            state: ProgramState::Idle,
            gripper: false,
        };
        Self {
            name: name.into(),
            noise,
            nominal_cycle,
            cycle_start: 0.0,
            cycle_length: nominal_cycle,
            part_gripped: true,
            part_counted: false,
            last_step: 0.0,
            true_temperatures: [AMBIENT; JOINTS],
            state,
        }
    }

    /// As if it had already run for `seconds`: its motors are that much warmer.
    pub fn warmed_up(mut self, seconds: f64) -> Self {
        let share = 1.0 - (-seconds.max(0.0) / THERMAL_TIME_CONSTANT).exp();
        for (joint, temperature) in self.true_temperatures.iter_mut().enumerate() {
            *temperature += share * WARMING[joint] * mean_square_current(joint, self.nominal_cycle);
        }
        self.state.temperatures = self.true_temperatures;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it measures now, that is after the newest step.
    pub fn state(&self) -> &RobotState {
        &self.state
    }

    /// Goes on to `t`, seconds since its start. Time going back changes nothing but the noise.
    pub fn step(&mut self, t: f64) {
        let t = t.max(self.last_step);
        self.turn_cycles(t);
        let dt = t - self.last_step;
        self.last_step = t;

        let progress = (t - self.cycle_start) / self.cycle_length;
        let motion = motion_at(progress, self.cycle_length);
        self.follow_program(&motion);

        let mut tcp_squared = 0.0;
        for joint in 0..JOINTS {
            let speed = motion.speeds[joint];
            let true_current = drive_current(joint, &motion);
            // The exact solution of the first-order law over the step, so that long steps are right.
            let target = AMBIENT + WARMING[joint] * true_current * true_current;
            let kept = (-dt / THERMAL_TIME_CONSTANT).exp();
            let true_temperature = &mut self.true_temperatures[joint];
            *true_temperature = target + (*true_temperature - target) * kept;

            self.state.positions[joint] = motion.positions[joint] + 2e-4 * self.noise.gaussian();
            self.state.currents[joint] = true_current + 0.05 * self.noise.gaussian();
            self.state.temperatures[joint] = *true_temperature + 0.08 * self.noise.gaussian();
            tcp_squared += (REACH[joint] * speed).powi(2);
        }
        self.state.tcp_speed = tcp_squared.sqrt() + 0.004 * self.noise.gaussian();
        self.state.supply_voltage = 24.0 + 0.05 * self.noise.gaussian();
    }

    fn turn_cycles(&mut self, t: f64) {
        // After a very long pause nobody can tell which of the cycles were run.
        let missed = ((t - self.cycle_start) / self.nominal_cycle - 1000.0).floor();
        if missed > 0.0 {
            self.cycle_start += missed * self.nominal_cycle;
            self.state.cycle_count = self.state.cycle_count.wrapping_add(missed as u32);
            self.state.part_count = self.state.part_count.wrapping_add(missed as u32);
        }
        while t >= self.cycle_start + self.cycle_length {
            self.count_part();
            self.cycle_start += self.cycle_length;
            self.state.cycle_count = self.state.cycle_count.wrapping_add(1);
            self.state.cycle_time = self.cycle_length;
            self.cycle_length =
                self.nominal_cycle * (1.0 + 0.004 * self.noise.gaussian().clamp(-4.0, 4.0));
            self.part_gripped = self.noise.uniform() < 0.99;
            self.part_counted = false;
        }
    }

    fn follow_program(&mut self, motion: &Motion) {
        let phase = &PHASES[motion.phase];
        self.state.state = phase.state;
        self.state.gripper = phase.gripping;
        if phase.state == ProgramState::Return {
            self.count_part();
        }
    }

    fn count_part(&mut self) {
        if self.part_gripped && !self.part_counted {
            self.state.part_count = self.state.part_count.wrapping_add(1);
        }
        self.part_counted = true;
    }
}

/// Where the joints are, how fast they turn and how they accelerate (rad, rad/s, rad/s²).
struct Motion {
    phase: usize,
    positions: [f64; JOINTS],
    speeds: [f64; JOINTS],
    accelerations: [f64; JOINTS],
}

fn motion_at(progress: f64, cycle_length: f64) -> Motion {
    let mut begin = 0.0;
    let mut from = &HOME;
    let last = PHASES.len() - 1;
    for (index, phase) in PHASES.iter().enumerate() {
        if progress < begin + phase.share || index == last {
            let seconds = phase.share * cycle_length;
            let s = ((progress - begin) / phase.share).clamp(0.0, 1.0);
            // Minimum-jerk profile (Flash and Hogan, 1985) and its derivatives.
            let place = s * s * s * (10.0 - 15.0 * s + 6.0 * s * s);
            let speed = 30.0 * s * s * (1.0 - s) * (1.0 - s) / seconds;
            let acceleration = 60.0 * s * (1.0 - s) * (1.0 - 2.0 * s) / (seconds * seconds);
            let distance = |joint: usize| phase.end[joint] - from[joint];
            return Motion {
                phase: index,
                positions: std::array::from_fn(|j| from[j] + distance(j) * place),
                speeds: std::array::from_fn(|j| distance(j) * speed),
                accelerations: std::array::from_fn(|j| distance(j) * acceleration),
            };
        }
        begin += phase.share;
        from = &phase.end;
    }
    unreachable!("the last phase takes what is left of the cycle")
}

fn drive_current(joint: usize, motion: &Motion) -> f64 {
    let stretch = match joint {
        1 => motion.positions[1].cos(),
        2 | 4 => (motion.positions[1] + motion.positions[2]).cos(),
        _ => 1.0,
    };
    let load = if PHASES[motion.phase].gripping {
        1.15
    } else {
        1.0
    };
    // tanh instead of a sign: friction does not jump where the joint turns round.
    let friction = FRICTION[joint] * (motion.speeds[joint] / 0.05).tanh();
    load * (GRAVITY[joint] * stretch + INERTIA[joint] * motion.accelerations[joint]) + friction
}

/// Mean square of a joint's current over a cycle, A².
fn mean_square_current(joint: usize, cycle_length: f64) -> f64 {
    const STEPS: u16 = 500;
    let square = |i| {
        let motion = motion_at(f64::from(i) / f64::from(STEPS), cycle_length);
        drive_current(joint, &motion).powi(2)
    };
    (0..STEPS).map(square).sum::<f64>() / f64::from(STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_run_and_another_seed_another() {
        let run = |seed| {
            let mut robot = RobotModel::new("r", seed);
            (0..500)
                .map(|i| {
                    robot.step(f64::from(i) * 0.05);
                    robot.state().clone()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn it_cycles_through_its_program_and_counts() {
        let mut robot = RobotModel::new("r", 3);
        let mut seen = Vec::new();
        let mut moved: f64 = 0.0;
        for i in 0..4000 {
            robot.step(f64::from(i) * 0.02);
            let state = robot.state();
            if seen.last() != Some(&state.state) {
                seen.push(state.state);
            }
            moved = moved.max(state.positions[0]);
            for (signal, value) in RobotState::signals().iter().zip(state.values()) {
                if let (Some((low, high)), Value::F64(x)) = (signal.range(), value) {
                    assert!(low <= x && x <= high, "{} is {x}", signal.name);
                }
            }
        }
        use ProgramState::*;
        assert_eq!(seen[..7], [Idle, Approach, Pick, Move, Place, Return, Idle]);
        let cycles = robot.state().cycle_count;
        assert!((10..=13).contains(&cycles), "{cycles} cycles in 80 s");
        assert!(robot.state().part_count.abs_diff(cycles) <= 2);
        assert!(
            (moved - 1.57).abs() < 0.01,
            "the first axis went to {moved}"
        );
    }

    #[test]
    fn a_warmed_robot_is_near_its_steady_state() {
        let mut robot = RobotModel::new("r", 5).warmed_up(8.0 * THERMAL_TIME_CONSTANT);
        robot.step(0.0);
        let before = robot.state().temperatures;
        for i in 0..60_000 {
            robot.step(f64::from(i) * 0.05);
        }
        for (joint, (a, b)) in before.iter().zip(robot.state().temperatures).enumerate() {
            assert!(
                (a - b).abs() < 1.5,
                "joint {} went from {a} to {b}",
                joint + 1
            );
            assert!((25.0..70.0).contains(&b), "joint {} is at {b}", joint + 1);
        }
    }

    #[test]
    fn values_have_the_kind_their_signal_says() {
        let robot = RobotModel::new("r", 1);
        for (signal, value) in RobotState::signals().iter().zip(robot.state().values()) {
            let fits = match signal.kind {
                SignalKind::F32 { .. } => matches!(value, Value::F64(_)),
                SignalKind::U32 | SignalKind::U16 => matches!(value, Value::U64(_)),
                SignalKind::Bool => matches!(value, Value::Bool(_)),
            };
            assert!(fits, "{} is {value:?}", signal.name);
        }
    }
}
