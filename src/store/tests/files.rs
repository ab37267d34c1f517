//! Bytes changed in the files themselves.
