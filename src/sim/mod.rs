//! The factory cell that `demo`, `sim`, `bench` and the tests point the hub at: machines that move,
//! behind real Modbus TCP and OPC UA servers, with faults that can be switched on.

pub mod bench_server;
pub mod cell;
pub mod controller;
pub mod device;
pub mod fault;
pub mod modbus_server;
pub mod noise;
pub mod notepad;
pub mod opcua_bench;
pub mod opcua_robot;
pub mod panel;
pub mod plc;
pub mod register_image;
pub mod robot;
pub mod signal;
