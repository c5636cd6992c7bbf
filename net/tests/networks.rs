//! Real networks, from packages of the Python index, against ONNX Runtime.

mod common;

use std::time::Instant;

#[test]
fn networks_from_packages_give_what_onnx_runtime_gives() {
    if common::skipped() {
        return;
    }
    let folder = common::run_script("networks.py", &[]);
    let mut failures = Vec::new();
    for case in common::cases(&folder) {
        let start = Instant::now();
        let result =
            dsconv_net::onnx::read(&case.model).and_then(common::stored).and_then(|graph| {
                let convolutions = graph.convolutions().count();
                let program = graph.specialise(&case.dims())?;
                println!(
                    "{}: {} nodes, {convolutions} convolutions, {} steps: {:?}",
                    case.name,
                    graph.nodes().len(),
                    program.steps().len(),
                    common::kinds(&program)
                );
                common::error_of(&graph, &case)
            });
        println!("{}: {result:?} in {:.1?}", case.name, start.elapsed());
        match result {
            Ok(error) if error <= 1e-3 => {}
            result => failures.push(format!("{}: {result:?}", case.name)),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
