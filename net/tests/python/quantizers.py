"""Small networks that ONNX Runtime's own quantisers made, in all of their forms."""

import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from graphs import Graphs

logging.disable(logging.WARNING)
tools = Graphs(sys.argv[1])
floats = tools.floats
node = helper.make_node


def network(opset):
    """A picture through convolutions (one of them depthwise), a sum, pools, activations and products."""
    w = {
        "w": floats(8, 3, 3, 3), "b": floats(8), "d": floats(8, 1, 3, 3), "p": floats(8, 8, 1, 1), "pb": floats(8),
        "m": floats(8, 6), "mb": floats(6), "g": floats(5, 6), "gb": floats(5), "lo": np.array(0, np.float32), "hi": np.array(6, np.float32),
    }
    nodes = [
        node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1]), node("Relu", ["a"], ["r"]),
        node("Conv", ["r", "d"], ["e"], pads=[1, 1, 1, 1], group=8, strides=[2, 2]), node("Clip", ["e", "lo", "hi"], ["c"]),
        node("Conv", ["c", "p", "pb"], ["q"]), node("Add", ["q", "c"], ["s"]), node("LeakyRelu", ["s"], ["l"], alpha=0.1),
        node("MaxPool", ["l"], ["mp"], kernel_shape=[2, 2], strides=[2, 2]), node("Sigmoid", ["mp"], ["sg"]), node("Mul", ["mp", "sg"], ["si"]),
        node("AveragePool", ["si"], ["ap"], kernel_shape=[2, 2], pads=[1, 1, 0, 0]), node("Concat", ["si", "ap"], ["cc"], axis=1),
        node("Split", ["cc"], ["h0", "h1"], axis=1, **({"num_outputs": 2} if opset >= 18 else {})), node("GlobalAveragePool", ["h1"], ["ga"]),
        node("Flatten", ["ga"], ["f"]), node("MatMul", ["f", "m"], ["mm"]), node("Add", ["mm", "mb"], ["ma"]),
        node("Gemm", ["ma", "g", "gb"], ["y"], transB=1),
    ]
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])
    body = helper.make_graph(nodes, "g", [info], [out], [numpy_helper.from_array(v, k) for k, v in w.items()])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=10 if opset > 20 else 8)


class Reader(CalibrationDataReader):
    def __init__(self):
        self.left = [{"x": floats(1, 3, 16, 16)} for _ in range(4)]

    def get_next(self):
        return self.left.pop() if self.left else None


folder = Path(tempfile.mkdtemp())
source, target = folder / "source.onnx", folder / "target.onnx"


def add(name):
    model = onnx.load(target)
    tools.writer.add(name, model, {"x": floats(2, 3, 16, 16)})


for opset in (13, 17, 21):
    onnx.save(network(opset), source)
    for form in (QuantFormat.QDQ, QuantFormat.QOperator):
        for activation, weight in ((QuantType.QInt8, QuantType.QInt8), (QuantType.QUInt8, QuantType.QInt8), (QuantType.QUInt8, QuantType.QUInt8), (QuantType.QInt16, QuantType.QInt8), (QuantType.QUInt16, QuantType.QUInt8)):
            wide = activation in (QuantType.QInt16, QuantType.QUInt16)
            if wide and form == QuantFormat.QOperator:
                continue
            for per_channel in (False, True):
                for extra in ({}, {"ActivationSymmetric": True}, {"WeightSymmetric": False}, {"AddQDQPairToWeight": True}, {"DedicatedQDQPair": True}):
                    if per_channel and extra.get("WeightSymmetric") is False or form == QuantFormat.QOperator and ("AddQDQPairToWeight" in extra or "DedicatedQDQPair" in extra):
                        continue
                    if extra and tools.rng.random() < 0.6:
                        continue
                    quantize_static(source, target, Reader(), quant_format=form, activation_type=activation, weight_type=weight, per_channel=per_channel, extra_options=extra)
                    add(f"{form.name} {activation.name} {weight.name} per channel {per_channel} {extra} opset {opset}")
    for weight in (QuantType.QInt8, QuantType.QUInt8):
        for per_channel in (False, True):
            quantize_dynamic(source, target, weight_type=weight, per_channel=per_channel)
            add(f"dynamic {weight.name} per channel {per_channel} opset {opset}")
k, n = 64, 24
weights = {"w": floats(k, n), "v": floats(n, 32), "u": floats(32, 5)}
nodes = [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["r"]), node("MatMul", ["r", "v"], ["b"]), node("MatMul", ["b", "u"], ["y"])]
info, out = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", "M", d]) for n, d in (("x", k), ("y", 5)))
body = helper.make_graph(nodes, "g", [info], [out], [numpy_helper.from_array(v, k) for k, v in weights.items()])
for form in (QuantFormat.QOperator, QuantFormat.QDQ):
    for bits in (4, 8) if form == QuantFormat.QOperator else (4,):
        for symmetric in (True, False):
            for block in (16, 32, 128):
                model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
                quantizer = MatMulNBitsQuantizer(model, bits=bits, block_size=block, is_symmetric=symmetric, quant_format=form)
                quantizer.process()
                tools.writer.add(f"MatMulNBits {form.name} {bits} {symmetric} {block}", quantizer.model.model, {"x": floats(2, 3, k)})
tools.writer.close()
