//! Tests of the validator as a whole: published run lengths, textbook examples, whole devices, and
//! properties that must hold for any batch.

mod arl;
mod device;
mod history;
mod properties;
mod support;
mod textbook;
