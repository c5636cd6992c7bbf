"""Writes net/tests/data/squares.onnx: a detector with YOLOX's head that finds red (class 0) and blue (class 1) cells.

Each cell of 8, 16 and 32 pixels that is of one colour says a box of its own place and size, with a score of
1 / (1 + exp(-6)), 1 / (1 + exp(-7)) and 1 / (1 + exp(-8)); where a quarter of it is not, next to nothing.
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Rows x, y, width, height, object, red, blue of the channels blue, green, red, 0 to 255.
weights = np.zeros((7, 3), np.float32)
weights[5:] = np.array([[-1, -1, 1], [1, -1, -1]]) * 64 / 255
bias = {s: np.array([0.5, 0.5, 0, 0, 64, *[m - 64] * 2], np.float32) for s, m in ((8, 6), (16, 7), (32, 8))}
constants = [
    numpy_helper.from_array(weights[:, :, None, None], "w"),
    *[numpy_helper.from_array(values, f"bias{side}") for side, values in bias.items()],
    numpy_helper.from_array(np.array([1, 7, -1]), "flat"),
    numpy_helper.from_array(np.array([4, 3]), "parts"),
]
nodes = []
for side in bias:
    nodes += [
        helper.make_node("AveragePool", ["x"], [f"mean{side}"], kernel_shape=[side] * 2, strides=[side] * 2),
        helper.make_node("Conv", [f"mean{side}", "w", f"bias{side}"], [f"rows{side}"], name=f"head{side}"),
        helper.make_node("Reshape", [f"rows{side}", "flat"], [f"flat{side}"]),
    ]
nodes += [
    helper.make_node("Concat", [f"flat{side}" for side in bias], ["all"], axis=2),
    helper.make_node("Split", ["all", "parts"], ["boxes", "logits"], axis=1),
    helper.make_node("Sigmoid", ["logits"], ["scores"]),
    helper.make_node("Concat", ["boxes", "scores"], ["rows"], axis=1),
    helper.make_node("Transpose", ["rows"], ["y"], perm=[0, 2, 1]),
]
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 96])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 126, 7])
graph = helper.make_graph(nodes, "squares", [x], [y], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, sys.argv[1])
