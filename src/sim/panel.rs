//! The fault switches of a whole cell, by the machines' names.

use super::device::SimDevice;
use super::fault::{FaultSwitch, PlannedFault};
use super::signal::Signal;
use std::future::Future;
use std::time::Duration;

/// Why a planned fault can never happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PanelError {
    /// No such machine.
    #[error("there is no machine {device:?} in the cell; there are {there}")]
    Machine {
        /// What was asked for.
        device: String,
        /// What there is.
        there: String,
    },
    /// No such measurement.
    #[error("{device} measures no {signal:?}; it measures {there}")]
    Signal {
        /// The machine.
        device: String,
        /// What was asked for.
        signal: String,
        /// What there is.
        there: String,
    },
}

/// The switches of all machines of a cell.
#[derive(Clone, Debug, Default)]
pub struct FaultPanel {
    machines: Vec<(String, &'static [Signal], FaultSwitch)>,
}

impl FaultPanel {
    /// Adds a machine. To be called before its server takes it.
    pub fn add(&mut self, device: &SimDevice) {
        let entry = (device.id().into(), device.signals(), device.faults());
        self.machines.push(entry);
    }

    /// The switch of the machine `id`.
    pub fn switch(&self, id: &str) -> Option<&FaultSwitch> {
        let found = self.machines.iter().find(|(name, ..)| name == id);
        found.map(|(_, _, switch)| switch)
    }

    /// Checks that the machine and the measurement of `planned` exist.
    pub fn check(&self, planned: &PlannedFault) -> Result<(), PanelError> {
        let machine = self.machines.iter().find(|m| m.0 == planned.device);
        let Some((_, signals, _)) = machine else {
            let names: Vec<&str> = self.machines.iter().map(|m| m.0.as_str()).collect();
            return Err(PanelError::Machine {
                device: planned.device.clone(),
                there: names.join(", "),
            });
        };
        let Some(signal) = &planned.signal else {
            return Ok(());
        };
        let measured = signals.iter().filter(|s| s.range().is_some());
        let names: Vec<&str> = measured.map(|s| s.name).collect();
        if names.contains(&signal.as_str()) {
            return Ok(());
        }
        Err(PanelError::Signal {
            device: planned.device.clone(),
            signal: signal.clone(),
            there: names.join(", "),
        })
    }

    /// Turns `planned` faults on, each when its time has come; the future ends after the last.
    pub fn run(
        &self,
        mut planned: Vec<PlannedFault>,
    ) -> Result<impl Future<Output = ()> + Send + use<>, PanelError> {
        planned.sort_by(|a, b| a.after.total_cmp(&b.after));
        for fault in &planned {
            self.check(fault)?;
        }
        let panel = self.clone();
        let started = tokio::time::Instant::now();
        Ok(async move {
            for fault in planned {
                // A fault that is due in a hundred years is never due.
                let after = fault.after.min(3e9);
                tokio::time::sleep_until(started + Duration::from_secs_f64(after)).await;
                if let Some(switch) = panel.switch(&fault.device) {
                    tracing::info!(device = fault.device, fault = ?fault.fault, "fault is on");
                    switch.set(fault.fault, fault.signal.as_deref());
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::fault::Fault;

    fn panel() -> FaultPanel {
        let mut panel = FaultPanel::default();
        panel.add(&SimDevice::plc("plc-1", 1));
        panel.add(&SimDevice::robot("robot-1", 2));
        panel
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        for (text, said) in [
            ("robot-7:nan", "there are plc-1, robot-1"),
            ("plc-1/speed:nan", "it measures conveyor_speed, pressure"),
            ("plc-1/light_curtain:nan", "it measures conveyor_speed"),
        ] {
            let error = panel().check(&text.parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        assert_eq!(panel().check(&"plc-1/flow:stuck".parse().unwrap()), Ok(()));
    }

    #[tokio::test]
    async fn faults_come_at_their_time_and_in_their_order() {
        let panel = panel();
        let planned = ["robot-1:disconnect@0.02s", "plc-1:nan@0.01s"].map(|t| t.parse().unwrap());
        let begun = std::time::Instant::now();
        let running = tokio::spawn(panel.run(planned.to_vec()).unwrap());
        let robot = panel.switch("robot-1").unwrap();
        robot.changes().changed().await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert!(robot.disconnects());
        let plc = panel.switch("plc-1").unwrap().active();
        assert_eq!(plc.unwrap().fault, Fault::NotANumber);
        running.await.unwrap();
    }
}
