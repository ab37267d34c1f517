//! Golden cases of cycles: what the trigger says, moment after moment, and how many batches end by it.

use crate::config::profile::{Case, CycleCase};
use crate::hub::DeviceSetup;
use crate::model::{BatchBuilder, Nanos, Quality, TagSpec, Value};
use crate::protocols::preprocess::{Preprocessed, Processing};
use crate::protocols::{Mode, Source, SourceError};
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::Arc;

/// A machine of which only the trigger is heard.
struct Trigger {
    tags: Arc<[TagSpec]>,
    column: usize,
    values: VecDeque<Value>,
    time: Nanos,
}

#[async_trait]
impl Source for Trigger {
    fn tags(&self) -> Arc<[TagSpec]> {
        self.tags.clone()
    }

    fn mode(&self) -> Mode {
        Mode::Subscribing
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
        if let Some(value) = self.values.pop_front() {
            self.time += 1;
            out.push(self.column, self.time, Some(value), Quality::GOOD);
        }
        Ok(())
    }
}

/// What is wrong with the cycles of a case, if anything.
pub(super) async fn differs(case: &Case, cycle: &CycleCase) -> Result<(), String> {
    let Some((tag, _)) = case.device.cycle.as_ref().and_then(|c| c.tag()) else {
        return Err("cycle: the device has none".to_owned());
    };
    let setup = DeviceSetup::from_config(&case.device).map_err(|e| e.to_string())?;
    let column = setup.tags.iter().position(|spec| *spec.name == *tag);
    let spec = column.and_then(|column| Some((column, setup.tags.get(column)?)));
    let (column, spec) = spec.ok_or_else(|| format!("cycle: there is no tag {tag}"))?;
    let mut values = VecDeque::new();
    for value in &cycle.values {
        let wrong = || format!("cycle: {value} is no {:?}", spec.kind);
        values.push_back(super::golden::converted(value, spec.kind).ok_or_else(wrong)?);
    }
    // Those that wait for the end of a batch take a turn of their own.
    let turns = 2 * values.len();
    let inner = Trigger {
        tags: setup.tags.clone(),
        column,
        values,
        time: 0,
    };
    let processing = Processing::new(&setup.tags, &[], case.device.cycle.as_ref());
    let processing = processing.map_err(|e| e.to_string())?;
    let mut source = Preprocessed::new(setup.id.clone(), Box::new(inner), processing);
    let mut out = BatchBuilder::subscribing(setup.id.clone(), source.tags());
    let mut ends = 0;
    for _ in 0..turns {
        source.read(&mut out).await.map_err(|e| e.to_string())?;
        ends += usize::from(source.batch_ended());
    }
    match ends == cycle.ends {
        true => Ok(()),
        false => Err(format!(
            "cycle: {ends} batches end by {tag}, and {} were expected",
            cycle.ends
        )),
    }
}
