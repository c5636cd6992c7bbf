//! Pictures: how they become a network's input, and what its output says about them.
//!
//! [`preprocessing`] describes the way from a picture to an input, [`placement`] computes where the picture lies in it,
//! and [`picture`] makes the input's elements and reads classes out of scores. [`detect`] reads boxes out of the output
//! of a detection network and takes them back to the picture.

pub mod augment;
pub mod detect;
pub mod picture;
pub(crate) mod placement;
pub(crate) mod preprocessing;
