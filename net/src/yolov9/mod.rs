//! YOLOv9 from its description: the yaml, its modules, weights with the names of the public state dicts, and the
//! graph that runs.
//!
//! [`Description::parse`] reads the yaml, [`Architecture::new`] resolves it and counts as YOLO programs count;
//! [`Architecture::load`] takes weights from a state dict in safetensors, [`Architecture::random`] makes some. Batch
//! norms fold into the convolutions, and the two convolutions of RepConvN into one of 3x3.
//!
//! A graph's first output, `output0`, is `(N, 4 + classes, anchors)`: centre, width and height of each anchor's box in
//! pixels of the picture, and the classes' scores between 0 and 1. Its input, `images`, is `(N, 3, H, W)` of pixels
//! between 0 and 1, red, green, blue; H and W are multiples of [`Architecture::stride`].
//!
//! Read `description` (the yaml) first, then `trace` (convolutions, pools and what they cost, of which a graph is
//! made), `modules` and `heads` (what the public networks are composed of), `resolve` (a row of the yaml as one of
//! those) and `architecture` (the whole). `weights` and `random` fill in the weights.

mod architecture;
mod description;
mod heads;
mod modules;
mod random;
mod resolve;
mod trace;
mod weights;

pub use architecture::{Architecture, GraphOutputs, Part, Summary};
pub use description::{Description, YOLOV9_C_DSCONV};
pub use resolve::ResolvedLayer;
