//! Every operator on random small graphs, against ONNX Runtime.

mod common;

/// Compares the cases of a script, whose errors may be so large, and returns them.
fn compare(script: &str, bound: impl Fn(&common::Case) -> f64) -> Vec<common::Case> {
    let folder = common::run_script(script, &[]);
    let cases = common::cases(&folder);
    let (mut failures, mut worst) = (Vec::new(), 0.0f64);
    for case in &cases {
        let graph = dsconv_net::onnx::read(&case.model).and_then(common::stored);
        match graph.and_then(|graph| common::error_of(&graph, case)) {
            Ok(error) if error <= bound(case) => worst = worst.max(error),
            result => {
                failures.push(format!("{} ({}): {result:?}", case.name, case.model.display()));
            }
        }
    }
    println!("{} cases, the worst relative error {worst:.1e}", cases.len());
    assert!(failures.is_empty(), "{} of {}: {failures:#?}", failures.len(), cases.len());
    // Where it says how many steps are left, something folds.
    for (case, steps) in cases.iter().filter_map(|case| Some((case, case.steps?))) {
        let graph = dsconv_net::onnx::read(&case.model).unwrap();
        let program = graph.specialise(&case.dims()).unwrap();
        assert_eq!(program.steps().len(), steps, "{}: {:?}", case.name, common::kinds(&program));
    }
    cases
}

/// The bound for quantised outputs. A sum that lies between two steps may go to either, and take others along in the
/// layers behind: up to three steps of the output were seen, whose largest may be as few as 40. ONNX Runtime differs as
/// much between its levels of optimisation.
fn few_steps(case: &common::Case) -> f64 {
    let mut values: Vec<f32> = case.outputs.iter().flat_map(common::Array::read).collect();
    values.sort_by(f32::total_cmp);
    let steps = values.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 0.0);
    let largest = values.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
    let step = f64::from(steps.fold(f32::INFINITY, f32::min) / largest);
    (3.01 * step).clamp(0.02, 0.1)
}

#[test]
fn operators_give_what_onnx_runtime_gives() {
    if common::skipped() {
        return;
    }
    let cases = compare("operators.py", |_| 1e-4);
    let folded = cases.iter().filter(|case| case.steps.is_some()).count();
    assert!(folded > 20, "{folded}");
}

#[test]
fn families_give_what_onnx_runtime_gives() {
    if common::skipped() {
        return;
    }
    compare("families.py", |_| 1e-4);
}

#[test]
fn quantisers_networks_give_what_onnx_runtime_gives() {
    if common::skipped() {
        return;
    }
    let cases = compare("quantizers.py", few_steps);
    for case in &cases {
        let graph = dsconv_net::onnx::read(&case.model).unwrap();
        for (node, id) in graph.convolutions() {
            let packed = matches!(graph.weights(id).as_ref(), dsconv::Weights::DsConv(_));
            assert!(packed, "{}: the weights of {} are floats", case.name, node.name);
        }
    }
}

#[test]
fn the_documents_list_every_operator() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/networks.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, behind) = text.split_once("<!-- operators -->").unwrap();
    let (list, _) = behind.split_once("<!-- /operators -->").unwrap();
    let listed: Vec<&str> =
        list.split_whitespace().map(|name| name.trim_end_matches(',')).collect();
    let known = dsconv_net::onnx::operators();
    assert_eq!(listed, known, "docs/networks.md should have: {}", known.join(", "));
}
