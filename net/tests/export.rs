//! Exported models are valid, give in ONNX Runtime what they give here, and come back without loss.

mod common;

use common::{Array, Case};
use dsconv::{BlockFormat, Cds, DsConvWeights, Partition, Weights};
use dsconv_net::{Graph, onnx};
use std::path::Path;

fn floats(rng: &mut fastrand::Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

/// Replaces every convolution's weights by random integers with random shifts, of random formats.
fn quantise(graph: &mut Graph, rng: &mut fastrand::Rng) {
    let ids: Vec<_> = graph.convolutions().map(|(_, id)| id).collect();
    for id in ids {
        let descriptor = match graph.weights(id).as_ref() {
            Weights::Float(weights) => *weights.descriptor(),
            Weights::DsConv(weights) => *weights.descriptor(),
        };
        let partition = if rng.bool() { Partition::Fixed } else { Partition::Even };
        let format =
            BlockFormat::new(rng.u8(2..=8), rng.u32(1..=6)).unwrap().with_partition(partition);
        let q: Vec<i32> =
            (0..descriptor.weight_count()).map(|_| rng.i32(format.min()..=format.max())).collect();
        let outputs = descriptor.out_channels as usize;
        let blocks = format.blocks_of(descriptor.channels_per_group()).count as usize;
        let shifts = outputs * blocks * descriptor.taps() as usize;
        let alpha = floats(rng, shifts);
        let mut weights =
            DsConvWeights::from_integers(descriptor, format, &q, alpha.clone()).unwrap();
        match rng.u8(..3) {
            0 => {}
            1 => weights = weights.with_kds_bias(floats(rng, shifts)).unwrap(),
            // What a zero point can say. Not 0 everywhere: such a bias is none, and comes back as none.
            _ => {
                let mut zeros: Vec<i8> = alpha.iter().map(|_| rng.i8(-8..=7)).collect();
                zeros[0] = rng.i8(1..=7);
                let biases = alpha.iter().zip(zeros).map(|(alpha, zero)| -alpha * f32::from(zero));
                weights = weights.with_kds_bias(biases.collect()).unwrap();
            }
        }
        let (scale, shift) = (floats(rng, outputs), floats(rng, outputs));
        match rng.u8(..4) {
            0 => weights = weights.with_cds(Cds::Output { scale, shift }).unwrap(),
            1 => weights = weights.with_cds(Cds::Kernel { scale, shift }).unwrap(),
            _ => {}
        }
        if rng.bool() {
            weights = weights.with_bias(floats(rng, outputs)).unwrap();
        }
        graph.set_weights(id, weights).unwrap();
    }
}

/// The weights, with their channel shift folded in: an export must keep them.
fn kept(graph: &Graph) -> Vec<Weights> {
    graph
        .convolutions()
        .map(|(_, id)| match graph.weights(id).as_ref() {
            Weights::DsConv(weights) => weights.fold_cds().unwrap().into(),
            Weights::Float(weights) => weights.clone().into(),
        })
        .collect()
}

/// Exports a graph as a case whose expected outputs are those of the CPU.
fn exported(graph: &Graph, case: &Case, folder: &Path, name: &str) -> Result<Case, String> {
    let model = folder.join(format!("{name}.onnx"));
    onnx::write(graph, &model).map_err(|e| format!("export: {e}"))?;
    let back = onnx::read(&model).map_err(|e| format!("import: {e}"))?;
    if kept(&back) != kept(graph) {
        return Err("the weights came back as others".into());
    }
    let run = |graph: &Graph| {
        let program = graph.specialise(&case.dims()).map_err(|e| e.to_string())?;
        common::check(&program);
        let outputs = case.run(&program).map_err(|e| e.to_string())?;
        let shown = outputs.into_iter().enumerate().map(|(at, values)| program.shown(at, values));
        let (dims, outputs): (Vec<_>, Vec<_>) = shown.unzip();
        Ok::<_, String>((outputs, dims))
    };
    let (outputs, shapes) = run(graph)?;
    let (again, _) = run(&back)?;
    for (a, b) in again.iter().zip(&outputs) {
        if common::relative_error(a, b) > 1e-5 {
            return Err("the model that came back gives something else".into());
        }
    }
    let files = outputs.iter().zip(shapes).enumerate().map(|(index, (output, dims))| {
        let file = folder.join(format!("{name}-{index}.bin"));
        let bytes: Vec<u8> = output.iter().flat_map(|y| y.to_le_bytes()).collect();
        std::fs::write(&file, bytes).unwrap();
        Array { dims, file }
    });
    let inputs = case.inputs.iter();
    let inputs = inputs.map(|input| Array { dims: input.dims.clone(), file: input.file.clone() });
    let outputs = files.collect();
    let name = format!("{} {name}", case.name);
    Ok(Case { name, model, inputs: inputs.collect(), outputs, steps: None })
}

fn round_trip(cases: &[Case], folder: &Path) {
    let mut rng = fastrand::Rng::with_seed(common::seed());
    std::fs::create_dir_all(folder).unwrap();
    let (mut made, mut failures, mut quantised) = (Vec::new(), Vec::new(), 0);
    for (index, case) in cases.iter().enumerate() {
        let mut graph = onnx::read(&case.model).unwrap();
        let mut add = |graph: &Graph, kind: &str| match exported(
            graph,
            case,
            folder,
            &format!("{index}-{kind}"),
        ) {
            Ok(case) => made.push(case),
            Err(why) => failures.push(format!("{} {kind}: {why}", case.name)),
        };
        add(&graph, "same");
        if graph.convolutions().next().is_some() {
            quantise(&mut graph, &mut rng);
            add(&graph, "quantised");
            quantised += 1;
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures: {:#?}",
        failures.len(),
        &failures[..failures.len().min(20)]
    );
    assert!(quantised > 0);
    std::fs::write(folder.join("cases.json"), serde_json::to_vec(&made).unwrap()).unwrap();
    common::run_script_in("verify.py", folder, &[]);
}

#[test]
fn operators_survive_export() {
    if common::skipped() {
        return;
    }
    let folder = common::run_script("operators.py", &["export"]);
    round_trip(&common::cases(&folder), &folder.join("exported"));
}

#[test]
fn families_survive_export() {
    if common::skipped() {
        return;
    }
    let folder = common::run_script("families.py", &["export"]);
    let cases = common::cases(&folder);
    // Which branch it is follows from sizes that are open: both are nodes of the graph, and ONNX would run both.
    let (open, cases): (Vec<Case>, Vec<Case>) =
        cases.into_iter().partition(|case| case.name.starts_with("If of an open size"));
    for case in &open {
        let error = onnx::to_bytes(&onnx::read(&case.model).unwrap()).unwrap_err().to_string();
        assert!(error.contains("input's size"), "{error}");
    }
    assert_eq!(open.len(), 2);
    round_trip(&cases, &folder.join("exported"));
}

#[test]
fn networks_survive_export() {
    if common::skipped() {
        return;
    }
    let folder = common::run_script("networks.py", &["export"]);
    for case in common::cases(&folder) {
        let graph = onnx::read(&case.model).unwrap();
        let back = onnx::from_bytes(&onnx::to_bytes(&graph).unwrap(), None).unwrap();
        assert_eq!(kept(&back), kept(&graph), "{}", case.name);
        let [before, after] = [&graph, &back].map(|graph| graph.specialise(&case.dims()).unwrap());
        assert_eq!(common::kinds(&before), common::kinds(&after), "{}", case.name);
    }
}
