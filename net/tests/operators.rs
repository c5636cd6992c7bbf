//! Every operator on random small graphs, against ONNX Runtime.

mod common;

/// How many steps are left of the cases that fold.
const FOLDED: [(&str, usize); 21] = [
    ("fold relu", 1),
    ("fold relu6", 1),
    ("fold silu", 1),
    ("fold silu turned", 1),
    ("fold hard swish", 1),
    ("fold hard swish of other slope", 3),
    ("fold hard swish of steps", 1),
    ("fold per channel", 1),
    ("fold scalar", 1),
    ("fold per column", 2),
    ("fold affine after relu", 2),
    ("fold relu, two readers", 2),
    ("fold silu, two readers", 2),
    ("fold residual", 2),
    ("fold residual, relu", 2),
    ("fold residual after", 3),
    ("residual of one shape", 2),
    ("residual that widens", 3),
    ("fold pad 0.0", 1),
    ("fold pad 1.0", 2),
    ("fold bias", 1),
];

#[test]
fn operators_give_what_onnx_runtime_gives() {
    if common::skipped() {
        return;
    }
    let folder = common::run_script("operators.py", &[]);
    let cases = common::cases(&folder);
    let (mut failures, mut worst) = (Vec::new(), 0.0f64);
    for case in &cases {
        let graph = dsconv_net::onnx::read(&case.model).and_then(common::stored);
        match graph.and_then(|graph| common::error_of(&graph, case)) {
            Ok(error) if error <= 1e-4 => worst = worst.max(error),
            result => {
                failures.push(format!("{} ({}): {result:?}", case.name, case.model.display()));
            }
        }
    }
    for (name, steps) in FOLDED {
        let case = cases.iter().find(|case| case.name.starts_with(&format!("{name} opset")));
        let case = case.unwrap_or_else(|| panic!("no case {name:?}"));
        let dims: Vec<&[usize]> = case.inputs.iter().map(|input| input.dims.as_slice()).collect();
        let program = dsconv_net::onnx::read(&case.model).unwrap().specialise(&dims).unwrap();
        assert_eq!(program.steps().len(), steps, "{name}: {:?}", common::kinds(&program));
    }
    println!("{} cases, the worst relative error {worst:.1e}", cases.len());
    assert!(failures.is_empty(), "{} of {}: {failures:#?}", failures.len(), cases.len());
}
