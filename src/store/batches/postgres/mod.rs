//! Sealed bytes in a PostgreSQL, or whatever speaks its protocol.
//!
//! One table for all ledgers that have them in a database; each has its rows under a name of its own. Writes are
//! keyed and single statements, so that any of them can be made again.

mod config;
mod link;

pub use config::{PostgresAddress, PostgresConfig};

use super::BatchStore;
use crate::ledger::store::{Pair, StoreError};
use link::{Link, TABLE};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use tokio::runtime::Runtime;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

/// Bytes of one statement at most, but for a batch that is larger.
const TOGETHER: usize = 8 << 20;
/// Hashes removed in one statement.
const REMOVED: usize = 4_096;
/// Rows of a page. A batch can be large, so it is few.
const PAGE: i64 = 32;

const PUT: &str = "INSERT INTO weighbridge_batches (ledger, hash, number, ciphertext) \
    SELECT $1, b.hash, $2, b.ciphertext FROM unnest($3::bytea[], $4::bytea[]) AS b (hash, ciphertext) \
    ON CONFLICT (ledger, hash) DO UPDATE SET ciphertext = excluded.ciphertext \
    WHERE weighbridge_batches.ciphertext <> excluded.ciphertext";
const GET: &str = "SELECT ciphertext FROM weighbridge_batches WHERE ledger = $1 AND hash = $2";
const NEXT: &str = "SELECT hash, ciphertext FROM weighbridge_batches \
    WHERE ledger = $1 AND hash >= $2 AND number <= $3 ORDER BY hash LIMIT $4";
const REMOVE: &str =
    "DELETE FROM weighbridge_batches WHERE ledger = $1 AND hash = ANY ($2::bytea[])";
const NEWEST: &str = "SELECT coalesce(max(number), 0) FROM weighbridge_batches WHERE ledger = $1";
const SWEEP: &str = "WITH gone AS \
    (DELETE FROM weighbridge_batches WHERE ledger = $1 AND number = $2 RETURNING 1) SELECT count(*) FROM gone";

/// The rows of one ledger in a database.
pub struct PostgresBatches {
    link: Arc<Link>,
    ledger: Vec<u8>,
    /// Its thread has the connection. Whoever asks waits on a thread of their own, which may be any.
    runtime: Option<Runtime>,
}

/// A statement's values, each with its type.
type Values = Vec<(Box<dyn ToSql + Sync + Send>, Type)>;

impl PostgresBatches {
    /// Those of the ledger of this name. The database must answer, and is made ready where it is not.
    pub fn open(config: &PostgresConfig, ledger: [u8; 16]) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("weighbridge-batches")
            .enable_all()
            .build()
            .map_err(|e| StoreError::Io(format!("no thread for the database: {e}")))?;
        let opened = Self {
            link: Arc::new(Link::new(config.clone())),
            ledger: ledger.to_vec(),
            runtime: Some(runtime),
        };
        // Anything that takes the way there and back.
        opened.get(&[])?;
        Ok(opened)
    }

    /// Makes one statement, and again where the connection was lost in between.
    fn query(&self, statement: &'static str, values: Values) -> Result<Vec<Row>, StoreError> {
        let (link, values) = (self.link.clone(), Arc::new(values));
        let asked = async move {
            let work = |client: Arc<Client>| run(client, statement, values.clone());
            link.ask(work).await
        };
        let Some(runtime) = &self.runtime else {
            return Err(StoreError::Io("the database is given up".to_owned()));
        };
        let (answer, answered) = sync_channel(1);
        runtime.spawn(async move {
            // Nobody listens when the caller is gone.
            let _ = answer.send(asked.await);
        });
        let lost = |_| StoreError::Io("the thread of the database ended".to_owned());
        answered.recv().map_err(lost)?
    }

    fn ledger(&self) -> (Box<dyn ToSql + Sync + Send>, Type) {
        (Box::new(self.ledger.clone()), Type::BYTEA)
    }

    fn put_together(&self, number: i64, batches: &[(&[u8], &[u8])]) -> Result<(), StoreError> {
        let hashes: Vec<Vec<u8>> = batches.iter().map(|(hash, _)| hash.to_vec()).collect();
        let values: Vec<Vec<u8>> = batches.iter().map(|(_, value)| value.to_vec()).collect();
        let values: Values = vec![
            self.ledger(),
            (Box::new(number), Type::INT8),
            (Box::new(hashes), Type::BYTEA_ARRAY),
            (Box::new(values), Type::BYTEA_ARRAY),
        ];
        self.query(PUT, values).map(drop)
    }
}

async fn run(
    client: Arc<Client>,
    statement: &'static str,
    values: Arc<Values>,
) -> Result<Vec<Row>, Error> {
    let values: Vec<(&(dyn ToSql + Sync), Type)> = values
        .iter()
        .map(|(value, of)| (&**value as &(dyn ToSql + Sync), of.clone()))
        .collect();
    client.query_typed(statement, &values).await
}

impl Drop for PostgresBatches {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn numbered(number: u64) -> Result<i64, StoreError> {
    let large = |_| StoreError::Io(format!("there is no commit {number} in the database"));
    number.try_into().map_err(large)
}

fn wrong(error: Error) -> StoreError {
    StoreError::Damaged(format!("table {TABLE} is not as it was made: {error}"))
}

impl BatchStore for PostgresBatches {
    fn row(&self, hash: &[u8]) -> String {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        format!(
            "the row with ledger {} and hash {} of table {TABLE} in {}",
            hex(&self.ledger),
            hex(hash),
            self.link.name()
        )
    }

    fn put(&self, number: u64, batches: &[(&[u8], &[u8])]) -> Result<(), StoreError> {
        let number = numbered(number)?;
        // A statement cannot touch a row twice; the last one counts.
        let batches: std::collections::BTreeMap<_, _> = batches.iter().copied().collect();
        let (mut together, mut bytes) = (Vec::new(), 0);
        for (hash, value) in batches {
            if bytes + value.len() > TOGETHER && !together.is_empty() {
                self.put_together(number, &together)?;
                (together, bytes) = (Vec::new(), 0);
            }
            bytes += value.len();
            together.push((hash, value));
        }
        match together.is_empty() {
            true => Ok(()),
            false => self.put_together(number, &together),
        }
    }

    fn get(&self, hash: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let values: Values = vec![self.ledger(), (Box::new(hash.to_vec()), Type::BYTEA)];
        let rows = self.query(GET, values)?;
        let value = |row: &Row| row.try_get(0).map_err(wrong);
        rows.first().map(value).transpose()
    }

    fn page(&self, from: &[u8], up_to: u64) -> Result<Vec<Pair>, StoreError> {
        let values: Values = vec![
            self.ledger(),
            (Box::new(from.to_vec()), Type::BYTEA),
            (Box::new(numbered(up_to)?), Type::INT8),
            (Box::new(PAGE), Type::INT8),
        ];
        let pair = |row: Row| Ok((row.try_get(0)?, row.try_get(1)?));
        let rows = self.query(NEXT, values)?.into_iter();
        rows.map(|row| pair(row).map_err(wrong)).collect()
    }

    fn remove(&self, hashes: &[Vec<u8>]) -> Result<(), StoreError> {
        for some in hashes.chunks(REMOVED) {
            let values: Values = vec![self.ledger(), (Box::new(some.to_vec()), Type::BYTEA_ARRAY)];
            self.query(REMOVE, values)?;
        }
        Ok(())
    }

    fn newest(&self) -> Result<u64, StoreError> {
        counted(&self.query(NEWEST, vec![self.ledger()])?)
    }

    fn sweep(&self, number: u64) -> Result<u64, StoreError> {
        let number: Box<dyn ToSql + Sync + Send> = Box::new(numbered(number)?);
        let values: Values = vec![self.ledger(), (number, Type::INT8)];
        counted(&self.query(SWEEP, values)?)
    }
}

/// The number that a statement answers.
fn counted(rows: &[Row]) -> Result<u64, StoreError> {
    let count = |row: &Row| row.try_get::<_, i64>(0).map_err(wrong);
    let count = rows.first().map(count).transpose()?;
    Ok(count.unwrap_or(0).unsigned_abs())
}
