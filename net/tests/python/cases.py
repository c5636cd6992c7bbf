"""Writes cases: a model, random inputs, and ONNX Runtime's outputs."""

import json
import os
import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort


class Writer:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.cases = []
        self.seed = int(os.environ.get("DSCONV_SEED", random.randrange(1 << 32)))
        print(f"DSCONV_SEED={self.seed}")
        self.rng = np.random.default_rng(self.seed)

    def array(self, name, values):
        values = np.asarray(values, order="C")
        floats = values.astype(np.float32)
        assert (floats.astype(np.float64) == values).all() or values.dtype == np.float32, f"{name}: {values.dtype}"
        values = floats
        file = self.folder / f"{name}.bin"
        file.write_bytes(values.tobytes())
        return {"dims": list(values.shape), "file": str(file)}

    def add(self, name, model, inputs, path=None, steps=None):
        """Runs the model (a ModelProto; or a file, by path) on inputs by name. A program of it has that many steps,
        where that is to be checked."""
        index = f"{len(self.cases):04}"
        if path is None:
            path = self.folder / f"{index}.onnx"
            # Outputs without a type get the one that follows from the nodes.
            if any(not info.HasField("type") for info in model.graph.output):
                model = onnx.shape_inference.infer_shapes(model)
            onnx.save(model, path)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Further rewrites compute something else: products with dequantised weights on int8 activations.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        outputs = session.run(None, inputs)
        if model is not None:
            # ONNX wants the outputs' ranks declared.
            for info, y in zip(model.graph.output, outputs):
                kind = onnx.helper.np_dtype_to_tensor_dtype(y.dtype)
                info.CopyFrom(onnx.helper.make_tensor_value_info(info.name, kind, [None] * y.ndim))
            onnx.save(model, path)
        order = [i.name for i in session.get_inputs()]
        self.cases.append({
            "name": name,
            "model": str(path),
            "inputs": [self.array(f"{index}-in{i}", inputs[n]) for i, n in enumerate(order)],
            "outputs": [self.array(f"{index}-out{i}", y) for i, y in enumerate(outputs)],
            "steps": steps,
        })

    def close(self):
        (self.folder / "cases.json").write_text(json.dumps(self.cases))
