"""Random small graphs, one operator each (and some that fold), at the operator sets where its form changed."""

import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from graphs import Graphs

tools = Graphs(sys.argv[1])
rng, floats, pick, size, run, graph = tools.rng, tools.floats, tools.pick, tools.size, tools.run, tools.graph
F = np.float32


def unary():
    x = floats(size(1, 3), size(1, 5), size(1, 7)) * 3
    for op in "Relu Sigmoid HardSwish HardSigmoid LeakyRelu Elu Softplus Exp Neg Abs Tanh Erf Floor Ceil Round Sin Cos Mish".split():
        run(op, op, [x])
    for op in "Log Sqrt Reciprocal".split():
        run(op, op, [np.abs(x) + F(0.1)])
    run("LeakyRelu", "LeakyRelu", [x], alpha=0.3)
    run("HardSigmoid", "HardSigmoid", [x], alpha=0.3, beta=0.4)
    run("Elu", "Elu", [x], alpha=0.7)
    run("Gelu", "Gelu", [x])
    run("Gelu", "Gelu", [x], approximate="tanh")
    run("PRelu", "PRelu", [floats(2, 3, 4, 5)], [floats(3, 1, 1)])
    for bounds in ((0, 6), (-1, 1), (0, None), (None, 0.5), (1, -1)):
        run("Clip", "Clip", [x], [None if b is None else np.array(b, F) for b in bounds])
    run("Clip", "Clip", [x], opset=10, min=-0.5, max=0.75)
    run("Round halves", "Round", [np.arange(-10, 11).astype(F) / 2])


def binary():
    for op in "Add Sub Mul Div Min Max".split():
        for a, b in (((2, 3, 4), (3, 1)), ((1, 5), (4, 1)), ((3,), (2, 3)), ((2, 1, 3), (1, 4, 1)), ((), (2, 2))):
            y = floats(*b)
            run(op, op, [floats(*a), np.where(np.abs(y) < 0.1, F(0.5), y).astype(F)])
        run(op, op, [floats(2, 3, 4, 5)], [np.abs(floats(3, 1, 1)) + F(0.5)])
    run("Pow", "Pow", [np.abs(floats(3, 4)) + F(0.1), floats(4)])
    run("Pow", "Pow", [floats(3, 4)], [np.array(2, F)])
    run("Sum", "Sum", [floats(3, 4), floats(4), floats(3, 1)])
    run("Mean", "Mean", [floats(3, 4), floats(4), floats(3, 1)])
    run("Max", "Max", [floats(3, 4), floats(4), floats(3, 1)])


def conv():
    for _ in range(24):
        groups = pick(1, 1, 2, 3)
        c, o = groups * size(1, 4), groups * size(1, 4)
        axes = pick(1, 2, 2, 2)
        kernel = [size(1, 4) for _ in range(axes)]
        attributes = {"group": groups, "strides": [size(1, 3) for _ in range(axes)]}
        mode = pick("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
        if mode in ("NOTSET", "VALID"):
            attributes["dilations"] = [size(1, 3) for _ in range(axes)]
        if mode == "NOTSET":
            attributes["pads"] = [size(0, 3) for _ in range(2 * axes)]
        else:
            attributes["auto_pad"] = mode
        if pick(True, False):
            attributes["kernel_shape"] = kernel
        x = floats(size(1, 2), c, *[size(10, 14) for _ in range(axes)])
        constants = [floats(o, c // groups, *kernel)] + pick([], [floats(o)])
        after = pick([], [("Relu", {})], [("HardSwish", {})], [("LeakyRelu", {"alpha": 0.1})], [("Sigmoid", {})])
        run(f"Conv {attributes} {kernel}", "Conv", [x], constants, opset=pick(14, 21), after=after, **attributes)


def conv_transpose():
    for _ in range(16):
        groups = pick(1, 1, 2)
        c, o = groups * size(1, 3), size(1, 3)
        axes = pick(1, 2, 2)
        strides = [size(1, 3) for _ in range(axes)]
        kernel = [size(2, 4) for _ in range(axes)]
        attributes = {"group": groups, "strides": strides}
        kind = pick("pads", "pads", "dilated", "SAME_UPPER", "SAME_LOWER", "output_shape")
        x = floats(size(1, 2), c, *[size(3, 7) for _ in range(axes)])
        if kind == "pads":
            attributes["pads"] = [size(0, 1) for _ in range(2 * axes)]
            attributes["output_padding"] = [size(0, s - 1) for s in strides]
        elif kind == "dilated":
            attributes["dilations"] = [size(1, 3) for _ in range(axes)]
        elif kind == "output_shape":
            full = [s * (n - 1) + k for s, n, k in zip(strides, x.shape[2:], kernel)]
            attributes["output_shape"] = [f - size(0, 1) for f in full]
        else:
            attributes["auto_pad"] = kind
            kernel = [max(k, s) for k, s in zip(kernel, strides)]
        constants = [floats(c, o, *kernel)] + pick([], [floats(o * groups)])
        run(f"ConvTranspose {attributes} {kernel}", "ConvTranspose", [x], constants, **attributes)


def pool():
    for _ in range(32):
        op = pick("MaxPool", "AveragePool")
        axes = pick(1, 2, 2)
        strides = [size(1, 3) for _ in range(axes)]
        # ONNX Runtime wants no negative padding, which SAME has where a stride is longer than the kernel.
        kernel = [size(s, 4) for s in strides]
        attributes = {"kernel_shape": kernel, "strides": strides}
        mode = pick("NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
        if mode == "NOTSET":
            attributes["pads"] = [size(0, k - 1) for k in kernel] + [size(0, k - 1) for k in kernel]
            attributes["dilations"] = [size(1, 2) for _ in range(axes)]
            attributes["ceil_mode"] = pick(0, 1)
        else:
            attributes["auto_pad"] = mode
        if op == "AveragePool":
            attributes["count_include_pad"] = pick(0, 1)
        x = floats(size(1, 2), size(1, 3), *[size(8, 13) for _ in range(axes)])
        run(f"{op} {attributes}", op, [x], **attributes)
    run("GlobalAveragePool", "GlobalAveragePool", [floats(2, 3, 4, 5)])
    run("GlobalMaxPool", "GlobalMaxPool", [floats(2, 3, 4, 5)])


def reduce():
    x = floats(2, 3, 4, 5)
    for op in "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL2 ReduceSumSquare".split():
        for keep in (0, 1):
            run(op, op, [x], [np.array([1, -1])], opset=18, keepdims=keep)
            run(op, op, [x], opset=18, keepdims=keep)
            run(op, op, [x], opset=11, axes=[-2, 0], keepdims=keep)
    for axis in (0, 1, 2, 3, -1):
        run("Softmax", "Softmax", [x], opset=13, axis=axis)
        run("LogSoftmax", "LogSoftmax", [x], opset=13, axis=axis)
        run("Softmax", "Softmax", [x], opset=11, axis=axis)


def shapes():
    x = floats(2, 3, 4, 5)
    for dims in ([2, -1], [0, 0, 20], [6, 4, 5, 1], [-1], [0, 3, -1, 1, 5]):
        run("Reshape", "Reshape", [x], [np.array(dims)])
    for axis in (0, 1, 2, 4, -1):
        run("Flatten", "Flatten", [x], axis=axis)
    y = floats(1, 3, 1, 5, 1)
    run("Squeeze", "Squeeze", [y], [np.array([0, -1])])
    run("Squeeze", "Squeeze", [y])
    run("Squeeze", "Squeeze", [y], opset=11, axes=[2])
    run("Unsqueeze", "Unsqueeze", [x], [np.array([0, -1])])
    run("Unsqueeze", "Unsqueeze", [x], opset=11, axes=[1, 3])
    run("Transpose", "Transpose", [x])
    for _ in range(6):
        run("Transpose", "Transpose", [x], perm=[int(i) for i in rng.permutation(4)])
    run("Transpose", "Transpose", [floats(2, 1, 3, 1)], perm=[1, 0, 3, 2])
    for axis in (0, 1, -1):
        parts = [floats(*[size(1, 4) if i == axis % 3 else 3 for i in range(3)]) for _ in range(3)]
        run("Concat", "Concat", parts, axis=axis)
    run("Concat", "Concat", [floats(2, 3)], [floats(2, 2)], axis=1)
    for starts, ends, axes, steps in (
        ([1], [3], [2], [1]), ([0, -3], [100, -1], [0, 3], [1, 1]), ([-1], [-100], [3], [-1]), ([4], [0], [3], [-2]),
        ([0], [5], [3], [3]), ([1, 0], [2, 3], None, None), ([0, 1], [2, 3], None, [1, 2]),
    ):
        constants = [np.array(starts), np.array(ends), None if axes is None else np.array(axes), None if steps is None else np.array(steps)]
        run("Slice", "Slice", [x], constants)
    run("Slice", "Slice", [x], opset=9, starts=[1, -4], ends=[2, 5], axes=[1, 3])
    run("Split", "Split", [x], outputs=2, axis=3, num_outputs=2)
    run("Split", "Split", [x], [np.array([1, 2, 2])], outputs=3, axis=3)
    run("Split", "Split", [x], opset=11, outputs=2, axis=2, split=[3, 1])
    run("Split", "Split", [x], opset=11, outputs=3, axis=1)
    run("Gather", "Gather", [x], [np.array([[2, 0], [-1, 1]])], axis=1)
    run("Gather", "Gather", [x], [np.array(1)], axis=3)
    run("Gather", "Gather", [floats(6)], [np.array(2)])
    run("Expand", "Expand", [floats(3, 1)], [np.array([2, 1, 4])])
    run("Tile", "Tile", [floats(2, 3, 4)], [np.array([2, 1, 3])])
    run("DepthToSpace", "DepthToSpace", [floats(2, 12, 3, 5)], blocksize=2, mode=pick("DCR", "CRD"))
    run("DepthToSpace", "DepthToSpace", [floats(1, 18, 3, 5)], blocksize=3, mode="CRD")
    run("SpaceToDepth", "SpaceToDepth", [floats(2, 3, 4, 6)], blocksize=2)
    for mode in ("constant", "edge", "reflect"):
        run(f"Pad {mode}", "Pad", [x], [np.array([0, 1, 2, 0, 1, 0, 3, 4])], mode=mode)
        run(f"Pad {mode}", "Pad", [x], [np.array([0, -1, 1, 0, 0, 0, -2, 2])], mode=mode)
    run("Pad value", "Pad", [x], [np.array([1, 2, 2, 1]), np.array(1.5, F), np.array([2, -1])])
    run("Pad", "Pad", [x], opset=10, pads=[0, 0, 1, 2, 0, 0, 3, 4], mode="constant", value=-1.0)


def resize():
    empty = np.array([], F)
    for mode in ("nearest", "linear", "cubic"):
        for coordinates in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"):
            rounding = pick("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
            attributes = dict(mode=mode, coordinate_transformation_mode=coordinates, nearest_mode=rounding)
            opset = 19 if coordinates == "half_pixel_symmetric" else pick(11, 13, 19)
            x = floats(1, 2, size(3, 7), size(3, 7))
            to = np.array([1, 2, size(1, 12), size(1, 12)])
            if mode == "cubic":
                # ONNX Runtime's cubic form knows images only, and takes equal widths for another layout.
                to = np.array([1, 2, x.shape[2] + size(1, 4), x.shape[3] + size(1, 4)])
            run(f"Resize {attributes}", "Resize", [x], [None if opset > 11 else empty, None if opset > 11 else empty, to], opset=opset, **attributes)
            scales = np.array([1, 1, pick(0.6, 1.5, 2, 2.6), pick(0.7, 2, 3)], F)
            run(f"Resize {scales} {attributes}", "Resize", [x], [None if opset > 11 else empty, scales], opset=opset, **attributes)
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        run(f"Resize {rounding}", "Resize", [floats(1, 1, 8, 6)], [None, np.array([1, 1, 0.5, 2], F)], mode="nearest", nearest_mode=rounding)
    # Of the third row an edge decides: 0.5 but for rounding.
    for rounding in ("round_prefer_floor", "round_prefer_ceil"):
        attributes = dict(mode="nearest", coordinate_transformation_mode="half_pixel_symmetric", nearest_mode=rounding)
        run(f"Resize edge {rounding}", "Resize", [floats(1, 2, 7, 4)], [None, np.array([1, 1, 2.6, 2], F)], opset=19, **attributes)
    run("Resize axes", "Resize", [floats(1, 2, 4, 5)], [None, None, np.array([9, 7])], mode="linear", axes=[3, 2])
    run("Upsample", "Upsample", [floats(1, 2, 4, 5)], [np.array([1, 1, 2, 3], F)], opset=9, mode="nearest")


def products():
    for a, b in (((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (4, 3)), ((3, 4), (4,)), ((4,), (4,))):
        run("MatMul", "MatMul", [floats(*a), floats(*b)])
        run("MatMul constant", "MatMul", [floats(*a)], [floats(*b)])
    weights = floats(4, 5)
    graph("MatMul constant left", [helper.make_node("MatMul", ["c", "x"], ["y"])], {"x": floats(2, 5, 3)}, {"c": weights}, ["y"])
    for flip_a in (0, 1):
        for flip_b in (0, 1):
            a, b = floats(*((4, 3) if flip_a else (3, 4))), floats(*((5, 4) if flip_b else (4, 5)))
            for c in ((5,), (1, 5), (3, 1), (3, 5), (1,)):
                attributes = dict(transA=flip_a, transB=flip_b, alpha=pick(1.0, 0.5), beta=pick(1.0, 2.0))
                run(f"Gemm {attributes}", "Gemm", [a], [b, floats(*c)], **attributes)
            run("Gemm", "Gemm", [a, b, floats(5)], transA=flip_a, transB=flip_b, alpha=0.3)
            run("Gemm", "Gemm", [a], [b], opset=13, transA=flip_a, transB=flip_b)


def norms():
    c = 5
    for dims in ((2, c), (2, c, 7), (2, c, 3, 4)):
        run("BatchNormalization", "BatchNormalization", [floats(*dims)], [floats(c), floats(c), floats(c), np.abs(floats(c)) + F(0.1)], opset=15)
    run("InstanceNormalization", "InstanceNormalization", [floats(2, c, 4, 3)], [floats(c), floats(c)])
    run("LayerNormalization", "LayerNormalization", [floats(2, 3, c)], [floats(c), floats(c)], opset=17)
    run("LayerNormalization", "LayerNormalization", [floats(2, 3, c)], [floats(3, c)], opset=17, axis=-2)


def folding():
    node = helper.make_node
    c, o = 4, 6
    norm = {"s": floats(o), "b": floats(o), "m": floats(o), "v": np.abs(floats(o)) + F(0.2)}
    weights = {"w": floats(o, c, 3, 3), "wb": floats(o)}
    x = floats(2, c, 7, 6)
    conv = node("Conv", ["x", "w", "wb"], ["a"], pads=[1, 1, 1, 1])
    bn = node("BatchNormalization", ["a", "s", "b", "m", "v"], ["n"])
    # The nodes behind the norm; how many steps are left of all, and how many where the norm is an output too.
    acts = {
        "relu": ([node("Relu", ["n"], ["y"])], 1, 2),
        "relu6": ([node("Clip", ["n", "lo", "hi"], ["y"])], 1, None),
        "silu": ([node("Sigmoid", ["n"], ["g"]), node("Mul", ["n", "g"], ["y"])], 1, 2),
        "silu turned": ([node("Sigmoid", ["n"], ["g"]), node("Mul", ["g", "n"], ["y"])], 1, None),
        "hard swish": ([node("HardSigmoid", ["n"], ["g"], alpha=1 / 6), node("Mul", ["n", "g"], ["y"])], 1, None),
        "hard swish of other slope": ([node("HardSigmoid", ["n"], ["g"], alpha=0.2), node("Mul", ["n", "g"], ["y"])], 3, None),
        "hard swish of steps": ([node("Add", ["n", "three"], ["p"]), node("Clip", ["p", "lo", "hi"], ["g"]), node("Mul", ["n", "g"], ["h"]), node("Div", ["h", "hi"], ["y"])], 1, None),
        "per channel": ([node("Mul", ["n", "k"], ["p"]), node("Add", ["k", "p"], ["y"])], 1, None),
        "scalar": ([node("Div", ["n", "hi"], ["p"]), node("Sub", ["p", "three"], ["y"])], 1, None),
        "per column": ([node("Mul", ["n", "col"], ["y"])], 2, None),
        "affine after relu": ([node("Relu", ["n"], ["p"]), node("Mul", ["p", "k"], ["y"])], 2, None),
    }
    extra = {"lo": np.array(0, F), "hi": np.array(6, F), "three": np.array(3, F), "k": floats(1, o, 1, 1), "col": floats(6)}
    for name, (nodes, steps, two_readers) in acts.items():
        used = {i for n in nodes for i in n.input}
        constants = weights | norm | {k: v for k, v in extra.items() if k in used}
        graph(f"fold {name}", [conv, bn, *nodes], {"x": x}, constants, ["y"], steps=steps)
        graph(f"fold {name}, two readers", [conv, bn, *nodes], {"x": x}, constants, ["y", "n"], steps=two_readers)
    # Residuals.
    other = {"w2": floats(o, o, 3, 3)}
    second = node("Conv", ["a", "w2"], ["d"], pads=[1, 1, 1, 1])
    for first, second_input in (("d", "a"), ("a", "d")):
        add = node("Add", [first, second_input], ["n"])
        graph("fold residual", [conv, second, add], {"x": x}, weights | other, ["n"], steps=2)
        graph("fold residual, relu", [conv, second, add, node("Relu", ["n"], ["y"])], {"x": x}, weights | other, ["y"], steps=2)
        after = [conv, second, node("Relu", ["d"], ["r"]), node("Add", ["r", "a"], ["n"]), node("Relu", ["n"], ["y"])]
        graph("fold residual after", after, {"x": x}, weights | other, ["y"], steps=3)
    add = node("Add", ["d", "z"], ["n"])
    graph("residual that broadcasts", [conv, second, add, node("Relu", ["n"], ["y"])], {"x": x, "z": floats(1, 1, 7, 6)}, weights | other, ["y"])
    graph("residual that widens", [conv, second, add], {"x": x[:1], "z": floats(3, o, 7, 6)}, weights | other, ["n"], steps=3)
    graph("residual of one shape", [conv, second, add], {"x": x, "z": floats(2, o, 7, 6)}, weights | other, ["n"], steps=2)
    # A margin before a convolution.
    for value, steps in ((0.0, 1), (1.0, 2)):
        pad = node("Pad", ["x", "p", "pv"], ["q"])
        constants = weights | {"p": np.array([0, 0, 1, 2, 0, 0, 3, 0]), "pv": np.array(value, F)}
        graph(f"fold pad {value}", [pad, node("Conv", ["q", "w", "wb"], ["y"], strides=[2, 2])], {"x": x}, constants, ["y"], steps=steps)
    # Matrix products and their bias.
    m = {"w": floats(c, o), "b": floats(o)}
    graph("fold bias", [node("MatMul", ["x", "w"], ["a"]), node("Add", ["b", "a"], ["n"]), node("Relu", ["n"], ["y"])], {"x": floats(2, 3, c)}, m, ["y"], steps=1)
    m = {"w": floats(c, o), "b": floats(3, 1)}
    graph("no bias", [node("MatMul", ["x", "w"], ["a"]), node("Add", ["a", "b"], ["y"])], {"x": floats(2, 3, c)}, m, ["y"])


def arithmetic():
    node = helper.make_node
    x = floats(2, 3, 4, 6)
    i64 = lambda *v: np.array(v, np.int64)
    graph("Reshape by Shape", [
        node("Shape", ["x"], ["s"]), node("Gather", ["s", "i"], ["n"]), node("Unsqueeze", ["n", "zero"], ["u"]),
        node("Concat", ["u", "rest"], ["to"], axis=0), node("Reshape", ["x", "to"], ["y"]),
    ], {"x": x}, {"i": np.array(2, np.int64), "zero": i64(0), "rest": i64(-1, 2)}, ["y"])
    graph("Resize by Shape", [
        node("Shape", ["x"], ["s"]), node("Slice", ["s", "two", "four"], ["hw"]), node("Cast", ["hw"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["f", "k"], ["g"]), node("Cast", ["g"], ["i"], to=TensorProto.INT64), node("Slice", ["s", "zero", "two"], ["nc"]),
        node("Concat", ["nc", "i"], ["to"], axis=0), node("Resize", ["x", "", "", "to"], ["y"], mode="linear"),
    ], {"x": x}, {"two": i64(2), "four": i64(4), "zero": i64(0), "k": np.array(1.5, F)}, ["y"])
    graph("Expand, Where, ConstantOfShape", [
        node("Shape", ["x"], ["s"]), node("ConstantOfShape", ["four"], ["ones"], value=numpy_helper.from_array(i64(1))),
        node("Equal", ["s", "cmp"], ["e"]), node("Where", ["e", "ones", "s"], ["to"]), node("Slice", ["x", "zero", "one", "axes"], ["part"]),
        node("Expand", ["part", "to"], ["y"]),
    ], {"x": x}, {"four": i64(4), "cmp": i64(9, 3, 9, 9), "zero": i64(0), "one": i64(1), "axes": i64(2)}, ["y"])
    graph("Range, grid", [
        node("Shape", ["x"], ["s"], start=-1), node("Squeeze", ["s"], ["n"]), node("Range", ["a", "n", "b"], ["r"]),
        node("Cast", ["r"], ["f"], to=TensorProto.FLOAT), node("Add", ["x", "f"], ["y"]),
    ], {"x": x}, {"a": np.array(0, np.int64), "b": np.array(1, np.int64)}, ["y"])
    half = numpy_helper.from_array(floats(6).astype(np.float16), "h")
    double = numpy_helper.from_array(floats(6).astype(np.float64), "d")
    graph("half and double", [
        node("Cast", ["h"], ["hf"], to=TensorProto.FLOAT), node("Cast", ["d"], ["df"], to=TensorProto.FLOAT),
        node("Add", ["x", "hf"], ["z"]), node("Mul", ["z", "df"], ["y"]),
    ], {"x": x}, {"h": half, "d": double}, ["y"])


def quantised():
    node = helper.make_node
    x = floats(2, 4, 7, 6)
    for zero in (np.array(3, np.int8), np.array(120, np.uint8), None):
        z = [] if zero is None else ["z"]
        constants = {"s": np.array(0.031, F)} | ({} if zero is None else {"z": zero})
        graph("QuantizeLinear, DequantizeLinear", [node("QuantizeLinear", ["x", "s", *z], ["q"]), node("DequantizeLinear", ["q", "s", *z], ["y"])], {"x": x}, constants, ["y"], opset=13)
    kinds = {np.int8: (TensorProto.INT8, -128, 127), np.uint8: (TensorProto.UINT8, 0, 255), "i4": (TensorProto.INT4, -8, 7), "u4": (TensorProto.UINT4, 0, 15)}
    for kind, low, high in kinds.values():
        for block in ("tensor", "channel", 4, 2, 1):
            for zero in (False, True):
                o, c = 3, 4
                dims = {"tensor": [], "channel": [o]}.get(block) if isinstance(block, str) else [o, c // block, 3, 3]
                count = int(np.prod(dims)) if dims else 1
                q = helper.make_tensor("q", kind, [o, c, 3, 3], rng.integers(low, high + 1, o * c * 9).tolist())
                constants = {"q": q, "s": (rng.normal(size=dims) * 0.1).astype(F).reshape(dims)}
                names = ["q", "s"]
                if zero:
                    constants["z"] = helper.make_tensor("z", kind, dims, rng.integers(low, high + 1, count).tolist())
                    names.append("z")
                attributes = {"tensor": {}, "channel": {"axis": 0}}.get(block) if isinstance(block, str) else {"axis": 1, "block_size": block}
                nodes = [node("DequantizeLinear", names, ["w"], **attributes), node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
                graph(f"DequantizeLinear {kind} {block} zero point {zero}", nodes, {"x": x}, constants, ["y"])


for make in (unary, binary, conv, conv_transpose, pool, reduce, shapes, resize, products, norms, folding, arithmetic, quantised):
    make()
tools.writer.close()
