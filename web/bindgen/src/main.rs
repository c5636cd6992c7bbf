//! Writes what wasm-bindgen makes of a compiled module. Its command line does the same, but takes
//! ten times as long to build.

use anyhow::Context;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let module = arguments.next().context("usage: dsconv-bindgen MODULE FOLDER")?;
    let folder = arguments.next().context("usage: dsconv-bindgen MODULE FOLDER")?;
    Bindgen::new()
        .input_path(module)
        .web(true)?
        .typescript(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        // web/ts says where the module is, in a form that bundlers see.
        .omit_default_module_path(true)
        // A module that has failed is started anew.
        .reset_state_function(true)
        .generate(folder)
}
