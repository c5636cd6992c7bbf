//! The test kit: Python scripts that compute cases with ONNX Runtime or PyTorch, the comparison with those cases, and
//! seeds of random numbers.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

mod cases;
mod scripts;
mod seed;

pub(crate) use cases::{
    Array, Case, cases, check, error_of, kinds, relative_error, run_if_small, stored,
};
pub(crate) use scripts::{run_script, run_script_in, run_torch_script, skipped};
pub(crate) use seed::seed;
