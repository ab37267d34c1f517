//! The integration tests: one binary, so that it links once.

#![allow(clippy::unwrap_used)]

mod attest;
mod cli;
mod damage;
mod demo;
mod devices;
mod disk;
mod faces;
mod floors;
mod kill;
mod lifecycle;
mod machines;
mod panics;
mod plc;
mod recovery;
mod reload;
mod restart;
mod site;
mod support;
mod values;
