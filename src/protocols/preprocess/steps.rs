//! The steps that one tag's samples take: pure, one sample at a time.

use super::config::{Convert, Deadband, Decimate, Keep, ProcessConfig};
use super::{PreprocessError, units};
use crate::model::{Nanos, Quality, TagSpec, Value, ValueKind};

/// One sample on its way; without a value where the device had none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) time: Nanos,
    pub(super) value: Option<Value>,
    pub(super) quality: Quality,
}

/// What is done with one tag's samples.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    convert: Option<(f64, f64)>,
    decimate: Option<Decimating>,
    deadband: Option<Width>,
}

#[derive(Clone, Debug)]
struct Decimating {
    config: Decimate,
    seen: u32,
    kept: Option<f64>,
    numbers: u32,
    worst: Quality,
}

#[derive(Clone, Debug)]
struct Width {
    width: f64,
    last: Option<(Option<f64>, Quality)>,
}

impl Steps {
    /// The steps of `config` for `tag`, and the tag as it is after them.
    pub(super) fn new(
        config: &ProcessConfig,
        mut tag: TagSpec,
    ) -> Result<(Self, TagSpec), PreprocessError> {
        let name = tag.name.to_string();
        let wrong = |reason: String| PreprocessError {
            tag: name.clone(),
            reason,
        };
        let number = matches!(tag.kind, ValueKind::F64 | ValueKind::I64 | ValueKind::U64);
        let steps = config.convert.is_some() || config.deadband.is_some();
        let calculates = config.decimate.is_some_and(|d| d.keep != Keep::Last);
        if !number && (steps || calculates) {
            return Err(wrong("its values are no numbers".to_owned()));
        }
        let convert = match &config.convert {
            Some(convert) => Some(factors(convert).map_err(wrong)?),
            None => None,
        };
        if let Some(convert) = &config.convert {
            tag.unit = convert.to.clone();
            tag.kind = ValueKind::F64;
        }
        let decimate = match config.decimate {
            Some(decimate) if decimate.every < 2 => {
                return Err(wrong("`decimate` needs `every` to be 2 or more".to_owned()));
            }
            Some(decimate) => {
                if decimate.keep == Keep::Mean {
                    tag.kind = ValueKind::F64;
                }
                Some(Decimating::new(decimate))
            }
            None => None,
        };
        let width = match config.deadband {
            Some(deadband) => Some(width(deadband, tag.range).map_err(wrong)?),
            None => None,
        };
        if width.is_some_and(|w| !w.is_finite() || w < 0.0) {
            return Err(wrong("its deadband is no width".to_owned()));
        }
        let deadband = width.map(|width| Width { width, last: None });
        let steps = Self {
            convert,
            decimate,
            deadband,
        };
        Ok((steps, tag))
    }

    /// Forgets what was before: the device was connected anew.
    pub(super) fn reset(&mut self) {
        if let Some(decimate) = &mut self.decimate {
            *decimate = Decimating::new(decimate.config);
        }
        if let Some(deadband) = &mut self.deadband {
            deadband.last = None;
        }
    }

    /// What is passed on of a sample.
    pub(super) fn take(&mut self, mut sample: Sample) -> Option<Sample> {
        if let (Some((factor, offset)), Some(value)) = (self.convert, &sample.value) {
            sample.value = value.as_f64().map(|x| Value::F64(x * factor + offset));
        }
        if let Some(decimate) = &mut self.decimate {
            sample = decimate.take(sample)?;
        }
        match &mut self.deadband {
            Some(deadband) => deadband.passes(&sample).then_some(sample),
            None => Some(sample),
        }
    }
}

fn width(deadband: Deadband, range: Option<(f64, f64)>) -> Result<f64, String> {
    match (deadband.absolute, deadband.percent, range) {
        (Some(width), None, _) => Ok(width),
        (None, Some(percent), Some((low, high))) => Ok((high - low) * percent / 100.0),
        (None, Some(_), None) => {
            Err("a deadband in percent is one of its `range`, and it has none".to_owned())
        }
        _ => Err("`deadband` needs either `absolute` or `percent`".to_owned()),
    }
}

fn factors(convert: &Convert) -> Result<(f64, f64), String> {
    match (&convert.from, convert.factor) {
        (Some(from), None) if convert.offset.is_none() => units::pair(from, &convert.to)
            .ok_or_else(|| {
                format!(
                    "how to get from `{from}` to `{}` is not known here; give `factor` and \
                     `offset` instead of `from`, or one of {}",
                    convert.to,
                    units::known()
                )
            }),
        (None, Some(factor)) => {
            let offset = convert.offset.unwrap_or(0.0);
            if factor.is_finite() && factor != 0.0 && offset.is_finite() {
                return Ok((factor, offset));
            }
            Err("its factor or offset is no number to calculate with".to_owned())
        }
        _ => Err("`convert` needs either `from` or `factor`".to_owned()),
    }
}

impl Decimating {
    fn new(config: Decimate) -> Self {
        Self {
            config,
            seen: 0,
            kept: None,
            numbers: 0,
            worst: Quality::GOOD,
        }
    }

    fn take(&mut self, mut sample: Sample) -> Option<Sample> {
        self.seen += 1;
        let number = sample.value.as_ref().and_then(Value::as_f64);
        // A value of Bad quality means nothing, and must not pull a mean.
        if let Some(x) = number.filter(|_| !sample.quality.is_bad()) {
            self.numbers += 1;
            self.worst = self.worst.worse(sample.quality);
            self.kept = Some(match (self.kept, self.config.keep) {
                (None, _) | (_, Keep::Last) => x,
                (Some(y), Keep::Mean) => y + x,
                (Some(y), Keep::Min) => y.min(x),
                (Some(y), Keep::Max) => y.max(x),
            });
        }
        if self.seen < self.config.every {
            return None;
        }
        let done = std::mem::replace(self, Self::new(self.config));
        if let (Some(kept), true) = (done.kept, self.config.keep != Keep::Last) {
            sample.quality = done.worst;
            sample.value = Some(match (self.config.keep, sample.value) {
                (Keep::Mean, _) => Value::F64(kept / f64::from(done.numbers)),
                // Beyond 2⁵³ an integer is compared as the nearest number, and is that number then.
                (_, Some(Value::I64(_))) => Value::I64(kept as i64),
                (_, Some(Value::U64(_))) => Value::U64(kept as u64),
                _ => Value::F64(kept),
            });
        }
        Some(sample)
    }
}

impl Width {
    fn passes(&mut self, sample: &Sample) -> bool {
        let number = sample.value.as_ref().and_then(Value::as_f64);
        let passes = match &self.last {
            None => true,
            Some((_, quality)) if *quality != sample.quality => true,
            Some((Some(last), _)) => match number {
                // NaN differs from everything, and must be seen.
                Some(x) => x.is_nan() || last.is_nan() || (x - last).abs() > self.width,
                None => true,
            },
            Some((None, _)) => number.is_some(),
        };
        if passes {
            self.last = Some((number, sample.quality));
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(kind: ValueKind, range: Option<(f64, f64)>) -> TagSpec {
        TagSpec {
            name: "force".into(),
            kind,
            unit: "°F".to_owned(),
            description: String::new(),
            range,
            writable: false,
        }
    }

    fn run(config: ProcessConfig, tag: TagSpec, values: &[f64]) -> Vec<(Nanos, f64)> {
        let (mut steps, _) = Steps::new(&config, tag).unwrap();
        let sample = |(at, x): (usize, &f64)| Sample {
            time: at as Nanos,
            value: Some(Value::F64(*x)),
            quality: Quality::GOOD,
        };
        let taken = values.iter().enumerate().map(sample);
        let taken = taken.filter_map(|sample| steps.take(sample));
        taken
            .map(|s| (s.time, s.value.unwrap().as_f64().unwrap()))
            .collect()
    }

    fn deadband(absolute: Option<f64>, percent: Option<f64>) -> ProcessConfig {
        ProcessConfig {
            deadband: Some(Deadband { absolute, percent }),
            ..ProcessConfig::default()
        }
    }

    fn absolute(width: f64) -> ProcessConfig {
        deadband(Some(width), None)
    }

    fn percent(percent: f64) -> ProcessConfig {
        deadband(None, Some(percent))
    }

    fn decimate(every: u32, keep: Keep) -> ProcessConfig {
        ProcessConfig {
            decimate: Some(Decimate { every, keep }),
            ..ProcessConfig::default()
        }
    }

    #[test]
    fn a_deadband_passes_what_differs_by_more_from_what_was_passed() {
        let values = [1.0, 1.4, 1.5, 1.6, 2.0, 2.2, 0.0, f64::NAN, 0.0];
        let passed = run(absolute(0.5), tag(ValueKind::F64, None), &values);
        let times: Vec<_> = passed.iter().map(|p| p.0).collect();
        assert_eq!(times, [0, 3, 5, 6, 7, 8]);
        let of_range = run(
            percent(25.0),
            tag(ValueKind::F64, Some((0.0, 2.0))),
            &values[..7],
        );
        assert_eq!(of_range.len(), 4);
    }

    #[test]
    fn a_quality_that_changes_always_passes_and_after_a_connection_the_first_does() {
        let config = absolute(10.0);
        let (mut steps, _) = Steps::new(&config, tag(ValueKind::F64, None)).unwrap();
        let mut take = |value: Option<f64>, quality| {
            let value = value.map(Value::F64);
            let taken = steps.take(Sample {
                time: 0,
                value,
                quality,
            });
            taken.is_some()
        };
        assert!(take(Some(1.0), Quality::GOOD));
        assert!(!take(Some(1.0), Quality::GOOD));
        assert!(take(None, Quality::BAD_NO_DATA));
        assert!(!take(None, Quality::BAD_NO_DATA));
        assert!(take(Some(1.0), Quality::GOOD));
        steps.reset();
        let again = steps.take(Sample {
            time: 0,
            value: Some(Value::F64(1.0)),
            quality: Quality::GOOD,
        });
        assert!(again.is_some());
    }

    #[test]
    fn one_of_so_many_stands_for_all_with_the_time_of_the_last() {
        let values = [3.0, 1.0, 2.0, 8.0, 9.0, 7.0, 5.0];
        let of = |keep| run(decimate(3, keep), tag(ValueKind::F64, None), &values);
        assert_eq!(of(Keep::Last), [(2, 2.0), (5, 7.0)]);
        assert_eq!(of(Keep::Mean), [(2, 2.0), (5, 8.0)]);
        assert_eq!(of(Keep::Min), [(2, 1.0), (5, 7.0)]);
        assert_eq!(of(Keep::Max), [(2, 3.0), (5, 9.0)]);
    }

    #[test]
    fn what_is_bad_pulls_no_mean() {
        let config = decimate(3, Keep::Mean);
        let (mut steps, spec) = Steps::new(&config, tag(ValueKind::U64, None)).unwrap();
        assert_eq!(spec.kind, ValueKind::F64);
        let mut passed = None;
        for (value, quality) in [
            (4, Quality::GOOD),
            (900, Quality::BAD_NO_DATA),
            (8, Quality::UNCERTAIN),
        ] {
            passed = steps.take(Sample {
                time: 1,
                value: Some(Value::U64(value)),
                quality,
            });
        }
        let passed = passed.unwrap();
        assert_eq!(passed.value, Some(Value::F64(6.0)));
        assert_eq!(passed.quality, Quality::UNCERTAIN);
    }

    #[test]
    fn units_are_converted_by_name_or_by_hand() {
        let convert = |from: Option<&str>, factor, offset| ProcessConfig {
            convert: Some(Convert {
                from: from.map(str::to_owned),
                to: "°C".to_owned(),
                factor,
                offset,
            }),
            ..ProcessConfig::default()
        };
        let by_name = convert(Some("°F"), None, None);
        let got = run(by_name.clone(), tag(ValueKind::F64, None), &[212.0]);
        assert!((got[0].1 - 100.0).abs() < 1e-12);
        let (_, spec) = Steps::new(&by_name, tag(ValueKind::I64, None)).unwrap();
        assert_eq!((spec.kind, &*spec.unit), (ValueKind::F64, "°C"));
        let by_hand = convert(None, Some(0.1), Some(-40.0));
        assert_eq!(
            run(by_hand, tag(ValueKind::F64, None), &[1000.0]),
            [(0, 60.0)]
        );
        let refused = |config, tag| Steps::new(&config, tag).unwrap_err().to_string();
        let unknown = refused(
            convert(Some("furlong"), None, None),
            tag(ValueKind::F64, None),
        );
        assert!(
            unknown.contains("`furlong`") && unknown.contains("°F→°C"),
            "{unknown}"
        );
        for (config, kind, why) in [
            (by_name, ValueKind::Text, "no numbers"),
            (convert(None, None, None), ValueKind::F64, "either"),
            (
                convert(Some("°F"), Some(1.0), None),
                ValueKind::F64,
                "either",
            ),
            (convert(None, Some(0.0), None), ValueKind::F64, "calculate"),
            (decimate(1, Keep::Last), ValueKind::F64, "2 or more"),
            (percent(1.0), ValueKind::F64, "range"),
            (deadband(None, None), ValueKind::F64, "either"),
            (deadband(Some(1.0), Some(1.0)), ValueKind::F64, "either"),
            (absolute(-1.0), ValueKind::F64, "no width"),
        ] {
            let said = refused(config, tag(kind, None));
            assert!(said.contains(why), "{said}");
        }
    }
}
