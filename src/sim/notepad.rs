//! The part of a simulated machine that keeps what is written: set-points and switches that an
//! operator would have, without any effect on the machine.

use super::modbus_server::cells;
use tokio_modbus::{ExceptionCode, Request, Response};

/// Address of its first holding register and of its first coil.
pub const NOTEPAD: u16 = 1000;
/// How many of each it has.
const CELLS: usize = 100;

/// Registers and coils that keep what is written.
#[derive(Debug)]
pub(super) struct Notepad {
    registers: Vec<u16>,
    coils: Vec<bool>,
}

impl Default for Notepad {
    fn default() -> Self {
        Self {
            registers: vec![0; CELLS],
            coils: vec![false; CELLS],
        }
    }
}

impl Notepad {
    /// The answer to a request that writes, or reads here; `None` for one that reads elsewhere.
    pub(super) fn answer(
        &mut self,
        request: &Request<'_>,
    ) -> Option<Result<Response, ExceptionCode>> {
        Some(match request {
            Request::ReadHoldingRegisters(NOTEPAD.., _) | Request::ReadCoils(NOTEPAD.., _) => {
                self.read(request)
            }
            Request::WriteSingleRegister(at, word) => self
                .write(*at, &[*word])
                .map(|()| Response::WriteSingleRegister(*at, *word)),
            Request::WriteMultipleRegisters(at, words) => self
                .write(*at, words)
                .map(|()| Response::WriteMultipleRegisters(*at, words.len() as u16)),
            Request::MaskWriteRegister(at, and, or) => self.mask(*at, *and, *or),
            Request::ReadWriteMultipleRegisters(from, count, at, words) => self
                .write(*at, words)
                .and_then(|()| self.registers(*from, *count))
                .map(Response::ReadWriteMultipleRegisters),
            Request::WriteSingleCoil(at, on) => self
                .switch(*at, &[*on])
                .map(|()| Response::WriteSingleCoil(*at, *on)),
            Request::WriteMultipleCoils(at, on) => self
                .switch(*at, on)
                .map(|()| Response::WriteMultipleCoils(*at, on.len() as u16)),
            _ => return None,
        })
    }

    fn read(&self, request: &Request<'_>) -> Result<Response, ExceptionCode> {
        match request {
            Request::ReadCoils(at, count) => {
                let coils = cells(&self.coils, offset(*at)?, *count)?;
                Ok(Response::ReadCoils(coils))
            }
            Request::ReadHoldingRegisters(at, count) => {
                let registers = self.registers(*at, *count)?;
                Ok(Response::ReadHoldingRegisters(registers))
            }
            _ => Err(ExceptionCode::IllegalFunction),
        }
    }

    fn registers(&self, at: u16, count: u16) -> Result<Vec<u16>, ExceptionCode> {
        cells(&self.registers, offset(at)?, count)
    }

    fn write(&mut self, at: u16, words: &[u16]) -> Result<(), ExceptionCode> {
        put(&mut self.registers, at, words)
    }

    fn switch(&mut self, at: u16, on: &[bool]) -> Result<(), ExceptionCode> {
        put(&mut self.coils, at, on)
    }

    /// Modbus Application Protocol V1.1b3, 6.16.
    fn mask(&mut self, at: u16, and: u16, or: u16) -> Result<Response, ExceptionCode> {
        let now = self.registers(at, 1)?.first().copied().unwrap_or_default();
        self.write(at, &[now & and | or & !and])?;
        Ok(Response::MaskWriteRegister(at, and, or))
    }
}

fn offset(at: u16) -> Result<u16, ExceptionCode> {
    at.checked_sub(NOTEPAD)
        .ok_or(ExceptionCode::IllegalDataAddress)
}

fn put<T: Copy>(block: &mut [T], at: u16, new: &[T]) -> Result<(), ExceptionCode> {
    let first = usize::from(offset(at)?);
    let place = block.get_mut(first..first + new.len());
    let place = place.ok_or(ExceptionCode::IllegalDataAddress)?;
    place.copy_from_slice(new);
    Ok(())
}
