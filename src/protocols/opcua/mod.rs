//! opcua
