//! The shaders without a GPU: they are valid, and take what the host gives.

use super::super::axes::Arranged;
use super::super::geometry::dispatches;
use super::super::gradients;
use super::super::kernels::{Dispatch, OpKernel};
use super::dxc::{self, Shader, ShaderModel};
use crate::ir::op::{Binary, Combination, PoolKind, Reduction, Unary};
use crate::ir::program::{ConvTranspose, Pool, StepOp, Taps};
use dsconv::{ConvDescriptor, Layout, Quantizer};

/// One dispatch of every kernel.
fn every() -> Vec<Dispatch> {
    let x: &[usize] = &[1, 1, 4, 4];
    let pool = Pool {
        kind: PoolKind::Max,
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        padding: [0; 4],
    };
    let conv = ConvTranspose {
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        padding: [0, 0],
        groups: 1,
    };
    let taps = Taps { axis: 3, count: 1, indices: vec![0; 4], weights: vec![1.0; 4] };
    let weights: &[usize] = &[1, 1, 1, 1];
    let cases = [
        (StepOp::Unary(Unary::Exp), vec![x], x),
        (StepOp::Binary(Binary::Add), vec![x, x], x),
        (StepOp::Pool(pool), vec![x], x),
        (StepOp::PoolGradient(pool), vec![x, x], x),
        (StepOp::Reduce { reduction: Reduction::Sum, axes: vec![3] }, vec![x], &[1, 1, 4, 1]),
        (StepOp::Softmax { axis: 3 }, vec![x], x),
        (StepOp::Expand, vec![x], x),
        (StepOp::Resize { axes: vec![taps] }, vec![x], x),
        (StepOp::MatMul, vec![x, x], x),
        (StepOp::ConvTranspose(conv), vec![x, weights], x),
        (StepOp::Pick { axis: 3 }, vec![x, x], x),
        (StepOp::Scatter { axis: 3, combination: Combination::Add }, vec![x, x, x], x),
        (
            StepOp::Suppress { centre: true, overlap: 0.5, least: 0.0 },
            vec![&[1, 4, 4], &[1, 1, 4], &[1, 1, 4]],
            &[4, 3],
        ),
        (StepOp::Order { axis: 3, descending: true }, vec![x], x),
    ];
    let one = |(op, inputs, dims): (StepOp, Vec<&[usize]>, &[usize])| {
        let plain = |dims: &[usize]| Arranged::new(dims, Layout::Nchw);
        let inputs: Vec<_> = inputs.into_iter().map(plain).collect();
        dispatches(&op, &inputs, &plain(dims)).unwrap().remove(0).0
    };
    let mut every: Vec<Dispatch> = cases.into_iter().map(one).collect();
    // What is dispatched for the gradients of convolutions.
    let image = Arranged::new(&[1, 8, 4, 4], Layout::Nchw);
    let dense = ConvDescriptor::new(8, 8, [1, 1]);
    let depthwise = dense.with_groups(8);
    every.extend([dense, depthwise].map(|conv| gradients::weights(&conv, &image, &image)));
    let packed = Quantizer::new(4, 8).unwrap().weights(&dense, &[0.5; 64]).unwrap();
    every.push(gradients::scales(&packed));
    every
}

#[test]
fn shaders_are_valid_and_take_what_the_host_gives() {
    let every = every();
    let kernels: std::collections::HashSet<OpKernel> = every.iter().map(|d| d.kernel).collect();
    assert_eq!(kernels.len(), 17);
    let forms = every.iter().flat_map(|dispatch| [(dispatch, false), (dispatch, true)]);
    for (dispatch, fours) in forms {
        let (name, wgsl) = (dispatch.kernel.name(), &*dispatch.kernel.wgsl(fours));
        let module = naga::front::wgsl::parse_str(wgsl)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(wgsl, name)));
        naga::valid::Validator::new(
            naga::valid::ValidationFlags::all(),
            naga::valid::Capabilities::empty(),
        )
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(wgsl, name)));
        let params = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Params"));
        let naga::TypeInner::Struct { span, .. } = params.unwrap().1.inner else {
            panic!("{name}")
        };
        assert_eq!(span as usize, 4 * dispatch.params.len(), "{name}");
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = variable.binding else { continue };
            let storage = |access| naga::AddressSpace::Storage { access };
            let space = match binding.binding {
                0 => naga::AddressSpace::Uniform,
                1..=3 => storage(naga::StorageAccess::LOAD),
                4 => storage(naga::StorageAccess::LOAD | naga::StorageAccess::STORE),
                other => panic!("{name}: binding {other}"),
            };
            assert_eq!((binding.group, variable.space), (0, space), "{name} {:?}", variable.name);
        }
    }
}

/// What DX12 gets of the same shaders.
#[test]
fn dxc_accepts_every_shader() {
    let every = every();
    let forms = every.iter().flat_map(|dispatch| [(dispatch, "one"), (dispatch, "four")]);
    let shader = |(dispatch, elements): (&Dispatch, &str)| {
        let shader = Shader {
            name: format!("{} {elements}", dispatch.kernel.name()),
            wgsl: dispatch.kernel.wgsl(elements == "four").into_owned(),
            constants: Vec::new(),
            checked: true,
        };
        // Nothing in them differs between shader models.
        (shader, ShaderModel::V6_4)
    };
    let shaders: Vec<_> = forms.map(shader).collect();
    if let Some(dxil) = dxc::compile("network", &shaders) {
        assert!(dxil.iter().all(|dxil| dxil.contains("define void @main()")));
    }
}
