//! Looking at a device that nobody has described yet: which units answer, who they say they are, which
//! cells can be read, and what is in them. Only reads, one request at a time, at a polite pace.

use super::bus::Bus;
use super::config::ModbusConfig;
use super::decode::Reply;
use super::explore::{Explorer, Found};
use super::identify::{self, Identification};
use super::link::Station;
use super::plan::ReadRequest;
use super::point::Table;
use super::polls::Refusal;
use crate::protocols::source::SourceError;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A look at what is behind one address or serial port.
pub struct Survey {
    bus: Arc<Bus>,
    config: ModbusConfig,
}

/// What can be read of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadableRanges {
    /// First address and the address after the last, in order.
    pub ranges: Vec<Range<u32>>,
    /// Whether the search came to its end; else there may be more.
    pub complete: bool,
    /// Whether the device has the table at all.
    pub exists: bool,
    /// Requests made.
    pub requests: usize,
}

impl Survey {
    /// A look through `config`: its transport, timeout, delay and limits count, its unit does not.
    pub fn new(config: ModbusConfig) -> Self {
        Self {
            bus: Bus::of(&config),
            config,
        }
    }

    fn station(&self, unit: u8) -> Station {
        Station {
            unit_id: unit,
            timeout: self.config.timeout(),
            delay: Duration::from_millis(self.config.delay_ms.get().into()),
        }
    }

    /// Connects; so that nobody there is told from no unit there.
    pub async fn connect(&self) -> Result<(), SourceError> {
        self.bus.connect(&self.station(1)).await
    }

    /// Whether unit `unit` answers, and who it says it is. A refusal is an answer, too. An error means
    /// that nobody is there at all.
    pub async fn unit(&self, unit: u8) -> Result<Option<Option<Identification>>, SourceError> {
        let station = self.station(unit);
        if self
            .read_cells(unit, Table::HoldingRegister, 0, 1)
            .await
            .is_err()
        {
            // Nobody has this number, unless nobody takes the connection either.
            self.bus.connect(&station).await?;
            return Ok(None);
        }
        // Some fall silent at a function that they do not know.
        let identification = identify::identify(&self.bus, &station).await;
        Ok(Some(identification.unwrap_or_default()))
    }

    /// Which cells of `table` can be read, found with at most `budget` requests; `within` searches
    /// there and thoroughly. `progress` hears of every request.
    pub async fn ranges(
        &self,
        unit: u8,
        table: Table,
        budget: usize,
        within: Option<Range<u32>>,
        mut progress: impl FnMut(),
    ) -> Result<ReadableRanges, SourceError> {
        let limit = self.config.limits().cells(table);
        let mut explorer = Explorer::new(limit, budget, within);
        let mut requests = 0;
        while let Some((first, count)) = explorer.next() {
            requests += 1;
            progress();
            let found = match self.read_cells(unit, table, first, count).await? {
                Ok(_) => Found::Readable,
                Err(Refusal::Function) => Found::NoTable,
                Err(_) => Found::Refused,
            };
            explorer.answer(found);
        }
        let exists = !explorer.has_no_table();
        let (ranges, complete) = explorer.found();
        Ok(ReadableRanges {
            ranges,
            complete,
            exists,
            requests,
        })
    }

    /// What is in `cells` of `table`; a bit is 0 or 1. Shorter when the device refuses a part of them.
    pub async fn read(
        &self,
        unit: u8,
        table: Table,
        cells: Range<u32>,
    ) -> Result<Vec<u16>, SourceError> {
        let limit = self.config.limits().cells(table);
        let mut words = Vec::new();
        let mut at = cells.start;
        while at < cells.end {
            let count = limit.min(cells.end - at);
            let (Ok(first), Ok(count)) = (u16::try_from(at), u16::try_from(count)) else {
                break;
            };
            let Ok(read) = self.read_cells(unit, table, first, count).await? else {
                break;
            };
            words.extend(read);
            at += u32::from(count);
        }
        Ok(words)
    }

    async fn read_cells(
        &self,
        unit: u8,
        table: Table,
        address: u16,
        count: u16,
    ) -> Result<Result<Vec<u16>, Refusal>, SourceError> {
        let request = ReadRequest {
            table,
            address,
            count,
            spans: Vec::new(),
        };
        let reply = self.bus.read(&self.station(unit), &request).await?;
        Ok(reply.map(|reply| match reply {
            Reply::Words(words) => words,
            Reply::Bits(bits) => bits.into_iter().map(u16::from).collect(),
        }))
    }
}
