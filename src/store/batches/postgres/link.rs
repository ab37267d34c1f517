//! The connection to the database: made when it is needed, bounded in time, made anew after it was lost.

use super::PostgresConfig;
use super::config::PostgresAddress;
use crate::crypto::{secret_file, tls};
use crate::ledger::store::StoreError;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The table that all of it is in.
pub(super) const TABLE: &str = "weighbridge_batches";
/// Until a connection is made.
const CONNECT: Duration = Duration::from_secs(5);
/// Until a statement is answered.
const ANSWER: Duration = Duration::from_secs(15);
/// After a connection that was not made, until the next is tried; whoever asks meanwhile is told at once.
const PAUSE: Duration = Duration::from_secs(1);

/// The table, where it is not there. Ciphertext does not compress; the index finds what a crash left.
const MAKE: &str = "CREATE TABLE IF NOT EXISTS weighbridge_batches (\
    ledger bytea NOT NULL, hash bytea NOT NULL, number bigint NOT NULL, ciphertext bytea NOT NULL, \
    PRIMARY KEY (ledger, hash));\
    ALTER TABLE weighbridge_batches ALTER COLUMN ciphertext SET STORAGE EXTERNAL;\
    CREATE INDEX IF NOT EXISTS weighbridge_batches_number ON weighbridge_batches (ledger, number)";
const LOOK: &str = "SELECT current_setting('fsync', true), current_setting('synchronous_commit', true), \
    to_regclass('weighbridge_batches') IS NOT NULL";

/// The connection, if there is one.
pub(super) struct Link {
    config: PostgresConfig,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// When and why the last try failed.
    failed: Option<(Instant, String)>,
}

struct Open {
    client: Arc<Client>,
    /// What moves the bytes.
    task: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    pub(super) fn new(config: PostgresConfig) -> Self {
        Self {
            config,
            state: Mutex::default(),
        }
    }

    /// What it leads to, in messages.
    pub(super) fn name(&self) -> String {
        let PostgresConfig {
            address, database, ..
        } = &self.config;
        format!("database `{database}` at {address}")
    }

    /// Does `work` over the connection, a second time where it was lost before the first came to anything.
    pub(super) async fn ask<T, F>(&self, work: impl Fn(Arc<Client>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut again = true;
        loop {
            let client = self.client().await?;
            match timeout(ANSWER, work(client.clone())).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(_)) if again && client.is_closed() => again = false,
                Ok(Err(error)) => return Err(self.failed(&described(&error))),
                Err(_) => {
                    self.give_up(&client).await;
                    let why = format!("no answer within {} s", ANSWER.as_secs());
                    return Err(self.failed(&why));
                }
            }
        }
    }

    fn failed(&self, why: &str) -> StoreError {
        StoreError::Io(format!("the {}: {why}", self.name()))
    }

    async fn client(&self) -> Result<Arc<Client>, StoreError> {
        let mut state = self.state.lock().await;
        if let Some(open) = state.open.as_ref().filter(|open| !open.client.is_closed()) {
            return Ok(open.client.clone());
        }
        if let Some((at, why)) = &state.failed
            && at.elapsed() < PAUSE
        {
            return Err(self.failed(why));
        }
        state.open = None;
        let connected = timeout(CONNECT, self.connect()).await;
        let late = |_| Err(format!("no connection within {} s", CONNECT.as_secs()));
        match connected.unwrap_or_else(late) {
            Ok(open) => {
                let client = open.client.clone();
                (state.open, state.failed) = (Some(open), None);
                Ok(client)
            }
            Err(why) => {
                let error = self.failed(&why);
                state.failed = Some((Instant::now(), why));
                Err(error)
            }
        }
    }

    /// Lets go of a connection on which nothing comes back any more.
    async fn give_up(&self, client: &Arc<Client>) {
        let mut state = self.state.lock().await;
        if state
            .open
            .as_ref()
            .is_some_and(|open| Arc::ptr_eq(&open.client, client))
        {
            state.open = None;
        }
    }

    async fn connect(&self) -> Result<Open, String> {
        let mut config = Config::new();
        config
            .user(&self.config.user)
            .dbname(&self.config.database)
            .application_name("weighbridge")
            // A standby would take nothing.
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        match &self.config.address {
            PostgresAddress::Host { host, port } => config.host(host).port(*port),
            PostgresAddress::Socket { folder, port } => config.host_path(folder).port(*port),
        };
        if let Some(file) = &self.config.password_file {
            let password = secret_file::read(file).map_err(|e| e.to_string())?;
            config.password(password.as_bytes());
        }
        let (client, task) = match &self.config.ca {
            None => {
                config.ssl_mode(SslMode::Disable);
                let connected = config.connect(NoTls).await;
                let (client, connection) = connected.map_err(|e| described(&e))?;
                (client, tokio::spawn(drive(connection)))
            }
            Some(ca) => {
                let pem = std::fs::read_to_string(ca)
                    .map_err(|e| format!("{} cannot be read: {e}", ca.display()))?;
                let trusting = tls::client_trusting(&pem, None)
                    .map_err(|e| format!("{}: {e}", ca.display()))?;
                config.ssl_mode(SslMode::Require);
                let over = MakeRustlsConnect::new((*trusting).clone());
                let connected = config.connect(over).await;
                let (client, connection) = connected.map_err(|e| described(&e))?;
                (client, tokio::spawn(drive(connection)))
            }
        };
        let open = Open {
            client: Arc::new(client),
            task,
        };
        ready(&open.client).await?;
        Ok(open)
    }
}

/// Moves bytes until the end; whoever asks notices it by themselves.
async fn drive(connection: impl Future<Output = Result<(), Error>>) {
    if let Err(error) = connection.await {
        tracing::warn!(
            error = described(&error),
            "the connection to the database ended"
        );
    }
}

/// Makes the table where it is missing, and sees to it that what is acknowledged is on disk.
async fn ready(client: &Client) -> Result<(), String> {
    let rows = client.query_typed(LOOK, &[]).await;
    let rows = rows.map_err(|e| described(&e))?;
    let row = rows.first().ok_or("it says nothing about itself")?;
    let setting = |at| -> Option<String> { row.try_get(at).ok().flatten() };
    if setting(0).as_deref() == Some("off") {
        return Err("it runs with fsync off, so that nothing in it is durable".to_owned());
    }
    if setting(1).as_deref() == Some("off") {
        let on = client.batch_execute("SET synchronous_commit = on").await;
        on.map_err(|e| described(&e))?;
    }
    if !row.try_get(2).unwrap_or(false) {
        let made = client.batch_execute(MAKE).await;
        made.map_err(|e| format!("table {TABLE} cannot be made: {}", described(&e)))?;
    }
    Ok(())
}

/// What went wrong, with what the server says of it.
fn described(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return said.message().to_owned();
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
