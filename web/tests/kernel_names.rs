//! The names of kernels that TypeScript writes are those of the library's table.

use dsconv::gpu::Kernel;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The strings in double quotes of a text.
fn quoted(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

fn names() -> Vec<&'static str> {
    // Browsers have no matrix units, by wgpu.
    let kernels = Kernel::CONVOLUTIONS.iter().filter(|kernel| kernel.spec().matrix.is_none());
    kernels.map(|kernel| kernel.name()).collect()
}

#[test]
fn the_type_has_every_kernel() {
    let text = read("ts/layer.ts");
    let (_, union) =
        text.split_once("export type KernelName =").expect("the type of kernels' names");
    let (union, _) = union.split_once(';').expect("its end");
    assert_eq!(quoted(union), names(), "KernelName in web/ts/layer.ts");
}

#[test]
fn the_golden_cases_run_on_every_kernel() {
    let text = read("tests/page/golden.js");
    let (_, runs) = text.split_once("const RUNS = [").expect("the list of runs");
    let (runs, _) = runs.split_once("];").expect("its end");
    let ran = quoted(runs);
    for name in names() {
        assert!(ran.contains(&name), "{name} is not in RUNS of web/tests/page/golden.js");
    }
}
