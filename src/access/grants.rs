//! Readers and what is granted to them, as changes make and end it.

use super::change::ChangeError;
use super::pattern::Pattern;
use super::reader::{MAX_GRANTS, MAX_READERS, ReadGrant, Reader};
use super::state::AccessState;
use weighbridge_verifier::PublicKey;

impl AccessState {
    pub(super) fn reader_key(
        &mut self,
        id: String,
        key: Option<PublicKey>,
    ) -> Result<(), ChangeError> {
        self.subject(&id)?;
        let Some(key) = key else {
            self.readers.remove(&id);
            return Ok(());
        };
        key.verifier().map_err(|_| ChangeError::Key)?;
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.key = key;
            return Ok(());
        }
        if self.readers.len() >= MAX_READERS {
            return Err(ChangeError::Readers);
        }
        let grants = Vec::new();
        self.readers.insert(id, Reader { key, grants });
        Ok(())
    }

    pub(super) fn grant(&mut self, id: &str, grant: ReadGrant) -> Result<(), ChangeError> {
        self.subject(id)?;
        let (from, until) = grant.span();
        if until <= from {
            return Err(ChangeError::Span);
        }
        let reader = self.readers.get_mut(id);
        let reader = reader.ok_or_else(|| ChangeError::NoKey(id.to_owned()))?;
        if reader.grants.contains(&grant) {
            return Ok(());
        }
        if reader.grants.len() >= MAX_GRANTS {
            return Err(ChangeError::Grants);
        }
        reader.grants.push(grant);
        Ok(())
    }

    pub(super) fn end_grant(&mut self, id: &str, devices: &Pattern) -> Result<(), ChangeError> {
        self.subject(id)?;
        let none = || ChangeError::NoGrant(id.to_owned(), devices.as_str().to_owned());
        let reader = self.readers.get_mut(id).ok_or_else(none)?;
        let before = reader.grants.len();
        reader.grants.retain(|grant| grant.devices != *devices);
        match reader.grants.len() < before {
            true => Ok(()),
            false => Err(none()),
        }
    }
}
