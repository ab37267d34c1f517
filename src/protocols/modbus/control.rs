//! Writing to a Modbus device, beside its reading: encoded, sent in as few requests as the order of
//! the writes allows, and read back. What counts is whether the registers hold the same bits.

use super::bus::{Bus, Met};
use super::config::{BitWrite, ModbusConfig};
use super::decode::{Decoder, Reply};
use super::encode::{Cell, encode};
use super::link::Station;
use super::plan::{ReadRequest, Span, plan};
use super::point::{ModbusPoint, Table};
use super::polls::Refusal;
use super::writes::{Block, Patch, WriteLimits, WriteRequest, blocks};
use crate::model::{BatchBuilder, DeviceId, TagSpec};
use crate::protocols::control::{Control, TagWrite, WriteFault, Written};
use crate::protocols::source::SourceError;
use async_trait::async_trait;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use tokio_modbus::ExceptionCode;

/// Writes the tags of one device over the connection that its source reads through.
pub(super) struct ModbusControl {
    pub device: DeviceId,
    /// The source holds it: when the device is no longer read, nothing is written either.
    pub bus: Weak<Bus>,
    /// Whom it met: nobody else is written to.
    pub met: Met,
    pub station: Station,
    pub config: Arc<ModbusConfig>,
    pub tags: Arc<[TagSpec]>,
    pub points: Arc<[ModbusPoint]>,
}

/// One cell of a device.
type Place = (Table, u16);

/// What is known of one call.
struct Writing<'a> {
    control: &'a ModbusControl,
    bus: Arc<Bus>,
    /// By write; `None` while nothing is wrong with it.
    faults: Vec<Option<WriteFault>>,
    /// What was written, and what was read back.
    written: HashMap<Place, Cell>,
    seen: HashMap<Place, u16>,
}

#[async_trait]
impl Control for ModbusControl {
    async fn write(&self, writes: &[TagWrite]) -> Result<Written, SourceError> {
        let bus = self.bus.upgrade().ok_or_else(|| SourceError::Unreachable {
            address: self.config.transport.to_string(),
            reason: "the device is no longer read".into(),
        })?;
        bus.still(&self.met)?;
        let mut writing = Writing {
            control: self,
            bus,
            faults: vec![None; writes.len()],
            written: HashMap::new(),
            seen: HashMap::new(),
        };
        let patches = writing.patches(writes);
        writing.send(patches).await?;
        writing.read_back(writes).await?;
        Ok(writing.results(writes))
    }
}

impl ModbusControl {
    fn limits(&self) -> WriteLimits {
        WriteLimits {
            registers: self.config.max_write_registers.get() as usize,
            coils: self.config.max_write_coils.get() as usize,
        }
    }

    /// What writing `write` changes in the device.
    fn patch(&self, index: usize, write: &TagWrite) -> Result<Patch, WriteFault> {
        let (Some(tag), Some(point)) = (self.tags.get(write.tag), self.points.get(write.tag))
        else {
            return Err(WriteFault::Value("there is no such tag".to_owned()));
        };
        if matches!(point.table, Table::DiscreteInput | Table::InputRegister) {
            let fault = format!("it is in a table that cannot be written, a {}", point.table);
            return Err(WriteFault::ReadOnly(fault));
        }
        if !tag.writable {
            let fault = "the configuration does not say `writable = true`";
            return Err(WriteFault::ReadOnly(fault.to_owned()));
        }
        let limit = self.limits().registers;
        if usize::from(point.width()) > limit {
            return Err(WriteFault::ReadOnly(format!(
                "it takes {} registers, but one request may write {limit}, and half a value must not \
                 be there even for a moment",
                point.width()
            )));
        }
        if let (Some((low, high)), Some(x)) = (tag.range, write.value.as_f64())
            && !(low..=high).contains(&x)
        {
            let fault = format!("{x} is outside of its range, {low} to {high}");
            return Err(WriteFault::Value(fault));
        }
        Ok(Patch {
            write: index,
            table: point.table,
            address: point.address,
            cells: encode(point, &write.value).map_err(WriteFault::Value)?,
        })
    }

    /// The request that writes `block`, unless it takes two.
    fn request(&self, block: &Block) -> WriteRequest {
        let address = block.address();
        if let Some((address, part)) = block.part() {
            return WriteRequest::Mask {
                address,
                and: !part.mask,
                or: part.value & part.mask,
            };
        }
        let values: Vec<u16> = block.cells().iter().map(|c| c.value).collect();
        match (block.table.is_bits(), values.as_slice()) {
            (true, [value]) => WriteRequest::Coil(address, *value != 0),
            (true, _) => WriteRequest::Coils(address, values.into_iter().map(|v| v != 0).collect()),
            // Of function 23 the standard allows 121 registers (6.17).
            (false, [_, ..]) if self.config.read_write && values.len() <= 121 => {
                WriteRequest::ReadWrite(address, values)
            }
            (false, [value]) => WriteRequest::Register(address, *value),
            (false, _) => WriteRequest::Registers(address, values),
        }
    }
}

/// The same request in another function, for a device that does not have the first.
fn instead(request: &WriteRequest) -> Option<WriteRequest> {
    match request {
        WriteRequest::Coil(at, on) => Some(WriteRequest::Coils(*at, vec![*on])),
        WriteRequest::Register(at, word) => Some(WriteRequest::Registers(*at, vec![*word])),
        WriteRequest::ReadWrite(at, words) => match words.as_slice() {
            [word] => Some(WriteRequest::Register(*at, *word)),
            _ => Some(WriteRequest::Registers(*at, words.clone())),
        },
        // Function 16 in pieces would be torn, and there is nothing for 22 but reading first.
        WriteRequest::Coils(..) | WriteRequest::Registers(..) | WriteRequest::Mask { .. } => None,
    }
}

impl Writing<'_> {
    fn patches(&mut self, writes: &[TagWrite]) -> Vec<Patch> {
        let mut patches = Vec::new();
        for ((index, write), fault) in writes.iter().enumerate().zip(&mut self.faults) {
            match self.control.patch(index, write) {
                Ok(patch) => patches.push(patch),
                Err(why) => *fault = Some(why),
            }
        }
        patches
    }

    fn fail(&mut self, write: usize, fault: WriteFault) {
        if let Some(slot @ None) = self.faults.get_mut(write) {
            *slot = Some(fault);
        }
    }

    async fn send(&mut self, patches: Vec<Patch>) -> Result<(), SourceError> {
        let limits = self.control.limits();
        let mut queue = VecDeque::from(blocks(patches, limits));
        while let Some(block) = queue.pop_front() {
            let refused = match self.send_block(&block).await? {
                Ok(()) => continue,
                Err(exception) => exception,
            };
            // A refused request did nothing, and does not say which of its cells it meant.
            let which = matches!(
                refused,
                ExceptionCode::IllegalDataAddress | ExceptionCode::IllegalDataValue
            );
            let writes: Vec<usize> = block.writes().collect();
            let reason = self.reason(&block, refused);
            match block.split(limits).filter(|_| which) {
                Some(parts) => parts.into_iter().rev().for_each(|b| queue.push_front(b)),
                None => {
                    for write in writes {
                        self.fail(write, WriteFault::Refused(reason.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    fn reason(&self, block: &Block, exception: ExceptionCode) -> String {
        let masked = block.part().is_some() && self.control.config.bit_write == BitWrite::Mask;
        let help = match exception {
            ExceptionCode::IllegalFunction if masked => {
                "; it cannot change a part of a register, try `bit_write = \"rewrite\"`"
            }
            _ => "",
        };
        format!("{exception} (exception {}){help}", u8::from(exception))
    }

    async fn send_block(
        &mut self,
        block: &Block,
    ) -> Result<Result<(), ExceptionCode>, SourceError> {
        let mut request = self.control.request(block);
        if let (Some((address, part)), BitWrite::Rewrite) =
            (block.part(), self.control.config.bit_write)
        {
            let whole = match self.read_register(address).await? {
                Ok(now) => now & !part.mask | part.value & part.mask,
                Err(_) => return Ok(Err(ExceptionCode::IllegalDataAddress)),
            };
            request = WriteRequest::Register(address, whole);
        }
        let (bus, station) = (self.bus.clone(), self.control.station);
        let answer = loop {
            match bus.write(&station, &request).await? {
                // A device without the function did nothing.
                Err(ExceptionCode::IllegalFunction) => match instead(&request) {
                    Some(other) => request = other,
                    None => break Err(ExceptionCode::IllegalFunction),
                },
                answer => break answer,
            }
        };
        let read = match answer {
            Ok(read) => read,
            Err(exception) => return Ok(Err(exception)),
        };
        for (cell, address) in block.cells().into_iter().zip(block.address()..) {
            let place = (block.table, address);
            let before = self.written.get(&place);
            let cell = before.map_or(cell, |before| before.then(cell));
            self.written.insert(place, cell);
            // What was seen before is old now.
            self.seen.remove(&place);
        }
        for (word, address) in read.into_iter().flatten().zip(block.address()..) {
            self.seen.insert((block.table, address), word);
        }
        Ok(Ok(()))
    }

    async fn read_register(&self, address: u16) -> Result<Result<u16, Refusal>, SourceError> {
        let request = ReadRequest {
            table: Table::HoldingRegister,
            address,
            count: 1,
            spans: Vec::new(),
        };
        let reply = self.bus.read(&self.control.station, &request).await?;
        Ok(reply.map(|reply| match reply {
            Reply::Words(words) => words.first().copied().unwrap_or_default(),
            Reply::Bits(_) => 0,
        }))
    }

    /// Reads the cells of all writes that went well and were not read back with them.
    async fn read_back(&mut self, writes: &[TagWrite]) -> Result<(), SourceError> {
        let (control, bus) = (self.control, self.bus.clone());
        let mut spans = Vec::new();
        for ((index, write), fault) in writes.iter().enumerate().zip(&self.faults) {
            if let (None, Some(point)) = (fault, control.points.get(write.tag)) {
                let span = Span {
                    point: index,
                    ..Span::new(write.tag, point)
                };
                if !places(&span).all(|place| self.seen.contains_key(&place)) {
                    spans.push(span);
                }
            }
        }
        let mut queue = VecDeque::from(plan(spans, control.config.limits()));
        while let Some(request) = queue.pop_front() {
            match bus.read(&control.station, &request).await? {
                Ok(reply) => self.see(&request, &reply),
                Err(refusal) => match (refusal, request.split()) {
                    (Refusal::Cells | Refusal::Failure, Some((left, right))) => {
                        queue.push_front(right);
                        queue.push_front(left);
                    }
                    _ => {
                        let reason = "the device refuses to show it".to_owned();
                        for span in &request.spans {
                            self.fail(span.point, WriteFault::NotReadBack(reason.clone()));
                        }
                    }
                },
            }
        }
        Ok(())
    }

    fn see(&mut self, request: &ReadRequest, reply: &Reply) {
        let words: Vec<u16> = match reply {
            Reply::Words(words) => words.clone(),
            Reply::Bits(bits) => bits.iter().map(|on| u16::from(*on)).collect(),
        };
        for (word, address) in words.into_iter().zip(request.address..) {
            self.seen.insert((request.table, address), word);
        }
    }

    fn results(mut self, writes: &[TagWrite]) -> Written {
        let control = self.control;
        // Of a device with many tags only those that were written are decoded.
        let mut tags: Vec<usize> = writes.iter().map(|w| w.tag).collect();
        tags.retain(|tag| *tag < control.tags.len().min(control.points.len()));
        tags.sort_unstable();
        tags.dedup();
        let specs = tags.iter().filter_map(|t| control.tags.get(*t).cloned());
        let points = tags.iter().filter_map(|t| control.points.get(*t).cloned());
        let points: Vec<ModbusPoint> = points.collect();
        let mut out = BatchBuilder::scanning(control.device.clone(), specs.collect());
        out.begin_scan(0);
        for column in 0..points.len() {
            self.decode(column, &points, &mut out);
        }
        let batch = out.take(0, 0);
        let shown = |tag: usize| {
            let column = tags.binary_search(&tag).ok()?;
            let column = batch.as_ref()?.columns.get(column)?;
            let value = column.values.get(0)?;
            (!column.quality.get(0).is_bad()).then_some(value)
        };
        for (index, write) in writes.iter().enumerate() {
            let Some(point) = control.points.get(write.tag) else {
                continue;
            };
            let kept = places(&Span::new(write.tag, point)).all(|place| {
                let (written, seen) = (self.written.get(&place), self.seen.get(&place));
                matches!((written, seen), (Some(cell), Some(word)) if cell.is_in(*word))
            });
            match shown(write.tag) {
                Some(_) if kept => {}
                Some(value) => self.fail(index, WriteFault::ReadBack(value)),
                None => {
                    let reason = "it holds what is no value of its type".to_owned();
                    self.fail(index, WriteFault::NotReadBack(reason));
                }
            }
        }
        let results = writes.iter().zip(self.faults);
        results
            .map(|(write, fault)| match (fault, shown(write.tag)) {
                (None, Some(value)) => Ok(value),
                (None, None) => Ok(write.value.clone()),
                (Some(fault), _) => Err(fault),
            })
            .collect()
    }

    /// Gives the running scan of `out` what a point shows now.
    fn decode(&self, column: usize, points: &[ModbusPoint], out: &mut BatchBuilder) {
        let Some(point) = points.get(column) else {
            return;
        };
        let span = Span::new(column, point);
        let words: Option<Vec<u16>> = places(&span).map(|p| self.seen.get(&p).copied()).collect();
        let Some(words) = words else { return };
        let request = ReadRequest {
            table: span.table,
            address: span.address,
            count: span.width,
            spans: vec![span],
        };
        let reply = match span.table.is_bits() {
            true => Reply::Bits(words.into_iter().map(|w| w != 0).collect()),
            false => Reply::Words(words),
        };
        Decoder::new(&request, points).decode(&reply, out);
    }
}

fn places(span: &Span) -> impl Iterator<Item = Place> + '_ {
    (span.address..)
        .take(span.width.into())
        .map(|address| (span.table, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_function_is_asked_in_another_one() {
        let word = WriteRequest::ReadWrite(5, vec![1]);
        let single = instead(&word).unwrap();
        assert_eq!(single, WriteRequest::Register(5, 1));
        let several = instead(&single).unwrap();
        assert_eq!(several, WriteRequest::Registers(5, vec![1]));
        assert_eq!(instead(&several), None);
    }
}
