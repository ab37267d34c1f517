//! The integration tests: one binary, so that it links once.

#![allow(clippy::unwrap_used)]

mod alarms;
mod attest;
mod buffers;
mod checkpoints;
mod cli;
mod control;
mod damage;
mod demo;
mod devices;
mod disk;
mod edge;
mod edge_control;
mod edge_process;
mod edge_reload;
mod edge_wire;
mod end_to_end;
mod faces;
mod floors;
mod guomi;
mod history;
mod hostile;
mod kill;
mod lifecycle;
mod machines;
mod mistakes;
mod modbus_device;
mod modbus_interop;
mod modbus_lines;
mod modbus_maps;
mod modbus_scan;
mod modbus_writes;
mod outage;
mod panics;
mod plc;
mod raw_opcua;
mod recovery;
mod reload;
mod restart;
mod robots;
mod scan;
mod site;
mod support;
mod values;
mod witness;
