//! A simulated machine as the protocol servers see it: signals, their values now, and a fault switch.

use super::fault::{Distortion, FaultSwitch};
use super::plc::{PlcModel, PlcState};
use super::robot::{RobotModel, RobotState};
use super::signal::Signal;
use crate::model::Value;

/// What moves inside.
#[derive(Clone, Debug)]
pub enum Model {
    /// A six-axis robot.
    Robot(Box<RobotModel>),
    /// The cell's PLC.
    Plc(Box<PlcModel>),
}

/// A machine, its measurements and its faults.
#[derive(Clone, Debug)]
pub struct SimDevice {
    id: String,
    model: Model,
    faults: FaultSwitch,
    distortion: Distortion,
}

impl SimDevice {
    /// A robot that has run all morning, so that its motors are warm.
    pub fn robot(id: &str, seed: u64) -> Self {
        let robot = RobotModel::new(id, seed).warmed_up(4.0 * 3600.0);
        Self::new(id, Model::Robot(Box::new(robot)))
    }

    /// A PLC in its steady state.
    pub fn plc(id: &str, seed: u64) -> Self {
        Self::new(id, Model::Plc(Box::new(PlcModel::new(id, seed))))
    }

    fn new(id: &str, model: Model) -> Self {
        Self {
            id: id.into(),
            model,
            faults: FaultSwitch::default(),
            distortion: Distortion::default(),
        }
    }

    /// Its id, which is also the device's in the hub.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The switch of its faults.
    pub fn faults(&self) -> FaultSwitch {
        self.faults.clone()
    }

    /// Its signals, in the order of [`sample`](Self::sample).
    pub fn signals(&self) -> &'static [Signal] {
        match &self.model {
            Model::Robot(_) => RobotState::signals(),
            Model::Plc(_) => PlcState::signals(),
        }
    }

    /// The value of every signal at `t`, seconds since the cell's start, faults included.
    pub fn sample(&mut self, t: f64) -> Vec<Value> {
        let mut values = match &mut self.model {
            Model::Robot(robot) => {
                robot.step(t);
                robot.state().values().to_vec()
            }
            Model::Plc(plc) => {
                plc.step(t);
                plc.state().values().to_vec()
            }
        };
        let active = self.faults.active();
        let signals = self.signals();
        self.distortion
            .apply(active.as_ref(), t, signals, &mut values);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::fault::Fault;

    #[test]
    fn a_fault_reaches_the_sample_and_only_its_signal() {
        let mut plc = SimDevice::plc("plc-1", 1);
        plc.faults().set(Fault::NotANumber, Some("flow"));
        let values = plc.sample(1.0);
        for (signal, value) in plc.signals().iter().zip(values) {
            let nan = matches!(value, Value::F64(x) if x.is_nan());
            assert_eq!(nan, signal.name == "flow", "{}", signal.name);
        }
    }
}
