//! Tensors as JavaScript has them, and the shapes that networks take.

use crate::error::invalid;
use crate::spec::extents;
use dsconv_net::{Model, Program, Result};
use js_sys::{Array, Float32Array, Float64Array, Object, Reflect};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// A tensor has `data` and a `shape`. The TypeScript side has checked their types.
    #[derive(Debug)]
    pub type Tensor;
    #[wasm_bindgen(method, getter)]
    fn data(this: &Tensor) -> Float32Array;
    #[wasm_bindgen(method, getter)]
    fn shape(this: &Tensor) -> Float64Array;
}

/// The dims that runs will ask for, where the model tells: one picture, or one input of each known size.
pub fn usual_dims(model: &Model) -> Option<Vec<Vec<usize>>> {
    if let Some(how) = &model.preprocessing {
        return Some(vec![how.dims()]);
    }
    let known = |dims: &[Option<usize>]| -> Option<Vec<usize>> {
        let dims = dims.iter().enumerate();
        dims.map(|(axis, dim)| dim.or((axis == 0).then_some(1))).collect()
    };
    model.graph.inputs().iter().map(|input| known(&input.dims)).collect()
}

/// The dims and the elements of several tensors.
pub type Tensors = (Vec<Vec<usize>>, Vec<Vec<f32>>);

/// Copies the inputs out of JavaScript.
///
/// # Errors
/// Another number of inputs than the model takes, or one that has not the elements of its shape.
pub fn checked_tensors(model: &Model, inputs: &[Tensor]) -> Result<Tensors> {
    let wanted = model.graph.inputs();
    if inputs.len() != wanted.len() {
        return Err(invalid("inputs", wanted.len(), inputs.len()));
    }
    let (mut dims, mut values) = (Vec::new(), Vec::new());
    for (input, wanted) in inputs.iter().zip(wanted) {
        let shape = extents(&input.shape().to_vec())?;
        // In 64 bits, and before anything is copied.
        let elements = shape.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent.into()));
        let data = input.data();
        if elements != Some(data.length().into()) {
            let field = format!("input {:?}", wanted.name);
            let expected = format!("the elements of {shape:?}");
            return Err(invalid(&field, expected, data.length()));
        }
        dims.push(shape.iter().map(|&extent| extent as usize).collect());
        values.push(data.to_vec());
    }
    Ok((dims, values))
}

/// The JavaScript object `{ data, shape }`.
fn tensor(values: &[f32], dims: &[usize]) -> JsValue {
    let object = Object::new();
    let shape: Array = dims.iter().map(|&dim| JsValue::from(dim as f64)).collect();
    // Setting properties of an object made here can't fail.
    let _ = Reflect::set(&object, &"data".into(), &Float32Array::from(values));
    let _ = Reflect::set(&object, &"shape".into(), &shape);
    object.into()
}

/// A program's outputs as objects of `data` and `shape`.
pub fn js_tensors(program: &Program, outputs: &[Vec<f32>]) -> JsValue {
    let ids = program.outputs().iter();
    let tensors = ids.zip(outputs).map(|(&id, values)| tensor(values, &program.value(id).dims));
    tensors.collect::<Array>().into()
}
