//! The subcommands, one a module: its `Options` and its `run`.

pub(crate) mod bench;
pub(crate) mod classify;
pub(crate) mod demo;
pub(crate) mod detect;
pub(crate) mod devices;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod finetune;
pub(crate) mod inspect;
pub(crate) mod isa;
pub(crate) mod quantize;
pub(crate) mod run;
pub(crate) mod verify;
pub(crate) mod yolov9;
