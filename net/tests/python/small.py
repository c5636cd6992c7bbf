"""Writes net/tests/data/small.onnx."""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(1)
weights = numpy_helper.from_array((rng.integers(-8, 8, (6, 5, 3, 3)) / 8).astype(np.float32), "w")
gain = numpy_helper.from_array(np.array([1, 2], np.float32).repeat(2), "gain")
dims = numpy_helper.from_array(np.array([6, -1]), "dims")
nodes = [
    helper.make_node("Conv", ["x", "w"], ["a"], name="conv", pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["a"], ["b"], name="relu"),
    helper.make_node("Mul", ["b", "gain"], ["c"], name="mul"),
    helper.make_node("Reshape", ["c", "dims"], ["y"], name="reshape"),
]
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5, "h", "w"])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [6, None])
graph = helper.make_graph(nodes, "small", [x], [y], [weights, gain, dims])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, sys.argv[1])
