//! YOLOv9 from its description: the yaml, its modules, weights with the names of the public state dicts, and the
//! graph that runs.
//!
//! [`Description::parse`] reads the yaml, [`Network::new`] resolves it and counts as YOLO programs count;
//! [`Network::load`] takes weights from a state dict in safetensors, [`Network::random`] makes some. Batch norms fold
//! into the convolutions, and the two convolutions of RepConvN into one of 3x3.
//!
//! A graph's first output, `output0`, is `(N, 4 + classes, anchors)`: centre, width and height of each anchor's box in
//! pixels of the picture, and the classes' scores between 0 and 1. Its input, `images`, is `(N, 3, H, W)` of pixels
//! between 0 and 1, red, green, blue; H and W are multiples of [`Network::stride`].

mod description;
mod detect;
mod modules;
mod network;
mod random;
mod resolve;
mod trace;
mod weights;

pub use description::Description;
/// The description of YOLOv9's network c with two DSConv convolutions in its auxiliary branch (layers 26 and 27), in yaml.
pub const YOLOV9_C_DSCONV: &str = include_str!("../../models/yolov9-c-dsconv.yaml");

pub use network::{GraphOutputs, Layer, Network, Part, Summary};
