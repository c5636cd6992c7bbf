"""Random small graphs of the operators that lowering composes, of integers and bools, of quantised networks and of
nodes that hold graphs, at the operator sets where their forms changed."""

import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from graphs import MICROSOFT, Graphs

tools = Graphs(sys.argv[1])
rng, floats, pick, size, run, graph = tools.rng, tools.floats, tools.pick, tools.size, tools.run, tools.graph
F = np.float32
node = helper.make_node
i64 = lambda *v: np.array(v, np.int64)


def cast(x, y, to=TensorProto.FLOAT):
    return node("Cast", [x], [y], to=to)


def functions():
    x = floats(size(1, 3), size(1, 5), size(1, 7)) * 3
    run("Selu", "Selu", [x])
    run("Selu", "Selu", [x], alpha=1.5, gamma=0.8)
    run("Celu", "Celu", [x])
    run("Celu", "Celu", [x], alpha=2.5)
    run("Softsign", "Softsign", [x])
    run("ThresholdedRelu", "ThresholdedRelu", [x])
    run("ThresholdedRelu", "ThresholdedRelu", [x], alpha=0.3)
    run("Shrink", "Shrink", [x])
    run("Shrink", "Shrink", [x], lambd=0.7, bias=0.2)
    run("Sign", "Sign", [np.array([-2, 0, 3, -0.0, 0.5], F)])
    for op in "Tan Sinh Cosh Asinh Atan".split():
        run(op, op, [x])
    for op in "Asin Acos Atanh".split():
        run(op, op, [np.tanh(x) * F(0.95)])
    run("Acosh", "Acosh", [np.abs(x) + F(1.1)])
    odd = np.array([1, np.nan, np.inf, -np.inf, -2], F)
    for opset in (13, 20):
        graph("IsNaN", [node("IsNaN", ["x"], ["b"]), cast("b", "y")], {"x": odd}, {}, ["y"], opset=opset)
    for negative in (0, 1):
        nodes = [node("IsInf", ["x"], ["b"], detect_negative=negative, detect_positive=1), cast("b", "y")]
        graph("IsInf", nodes, {"x": odd}, {}, ["y"], opset=20)
    run("Gelu", "Gelu", [x], domain=MICROSOFT)
    run("QuickGelu", "QuickGelu", [x], domain=MICROSOFT, alpha=1.702)
    run("BiasGelu", "BiasGelu", [x], [floats(x.shape[-1])], domain=MICROSOFT)
    run("FastGelu", "FastGelu", [x], [floats(x.shape[-1])], domain=MICROSOFT)
    for axis in (0, 1, -1):
        run("LogSoftmax", "LogSoftmax", [x * 40], opset=11, axis=axis)
        run("LogSoftmax", "LogSoftmax", [x * 40], opset=13, axis=axis)
        run("Hardmax", "Hardmax", [x], opset=11, axis=axis)
        run("Hardmax", "Hardmax", [x], opset=13, axis=axis)
    run("Clip computed", "Clip", [x, np.array(-0.5, F), np.array(0.7, F)])


def reductions():
    x = np.abs(floats(2, 3, 4, 5)) + F(0.1)
    for op in "Mean Sum Max Min Prod L1 L2 SumSquare LogSum LogSumExp".split():
        op, since = f"Reduce{op}", 13 if op == "Sum" else 18
        for keep in (0, 1):
            for axes in ([1, -1], [0], [-2, 3, 1]):
                run(op, op, [x], [np.array(axes)], opset=pick(since, 21), keepdims=keep, noop_with_empty_axes=pick(0, 1))
                run(op, op, [x], opset=pick(7, 11, since - 1), axes=sorted(a % 4 for a in axes), keepdims=keep)
            run(op, op, [x], opset=pick(7, 11, since - 1), keepdims=keep)
            for empty in ([], [i64()], [None]):
                run(f"{op} empty", op, [x], empty, opset=pick(since, 21), keepdims=keep, noop_with_empty_axes=0)
                if not (op == "ReduceSum" and since == 13 and empty and empty[0] is None):
                    run(f"{op} noop", op, [x], empty, opset=pick(since, 21), keepdims=keep, noop_with_empty_axes=1)
    for op in ("LogSumExp", "L1", "L2"):
        run(f"Reduce{op}", f"Reduce{op}", [floats(3, 4) * 30], [i64(-1)], opset=18)


def diagonals_and_sequences():
    for k in (0, 1, -2, 9):
        for opset in (9, 22):
            for dtype in (TensorProto.FLOAT, TensorProto.INT64):
                nodes = [node("EyeLike", ["x"], ["e"], dtype=dtype, k=k), cast("e", "y")]
                graph("EyeLike", nodes, {"x": floats(size(1, 5), size(1, 5))}, {}, ["y"], opset=opset)
    run("EyeLike", "EyeLike", [floats(3, 4)])
    for axes in ((1, 0), (0, 1)):
        for dims in ((4, 3), (3, 4, 2), (4, 4, 2, 3)):
            batch, time = axes
            lengths = tools.rng.integers(0, dims[time] + 1, dims[batch])
            x = floats(*dims)
            run("ReverseSequence", "ReverseSequence", [x], [lengths], opset=10, batch_axis=batch, time_axis=time)
            run("ReverseSequence of the run", "ReverseSequence", [x, lengths], opset=10, batch_axis=batch, time_axis=time)
    run("ReverseSequence", "ReverseSequence", [floats(3, 2)], [i64(3, 1)])


def norms():
    c = 6
    for dims in ((2, c), (2, c, 7), (2, c, 3, 4)):
        x = floats(*dims)
        for axis in (0, 1, -1):
            for p in (1, 2):
                run("LpNormalization", "LpNormalization", [x], axis=axis, p=p)
        for opset, count in ((18, 3), (21, c)):
            if len(dims) > 2:
                run("GroupNormalization", "GroupNormalization", [x], [floats(count), floats(count)], opset=opset, num_groups=3, epsilon=1e-3)
        for axis in range(1, len(dims)):
            shape = dims[axis:]
            for a in (axis, axis - len(dims)):
                run("LayerNormalization", "LayerNormalization", [x], [floats(*shape)] + pick([], [floats(*shape)]), opset=17, axis=a)
                run("RMSNormalization", "RMSNormalization", [x], [floats(*shape)], opset=23, axis=a, epsilon=1e-3)
    run("LpNormalization of zeros", "LpNormalization", [np.zeros((2, 3), F)], axis=1)
    run("MeanVarianceNormalization", "MeanVarianceNormalization", [floats(2, c, 3, 4)], opset=13)
    run("MeanVarianceNormalization", "MeanVarianceNormalization", [floats(2, c, 3)], opset=13, axes=[0, 2])
    for window in (1, 3, 5, 7):
        run("LRN", "LRN", [floats(2, c, 3, 4)], opset=pick(7, 13), size=window, alpha=0.3, beta=0.6, bias=1.5)
    run("LRN", "LRN", [floats(1, c, 3, 4)], size=3)
    x = floats(2, 3, c)
    run("SimplifiedLayerNormalization", "SimplifiedLayerNormalization", [x], [floats(c)], opset=17, axis=-1, epsilon=1e-4)
    for bias in ([], [floats(c)]):
        run("SkipLayerNormalization", "SkipLayerNormalization", [x, floats(2, 3, c)], [floats(c), floats(c), *bias], domain=MICROSOFT)
        run("SkipSimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", [x, floats(2, 3, c)], [floats(c), *bias], domain=MICROSOFT)


def windows():
    for _ in range(6):
        axes = pick(1, 2, 2)
        strides = [size(1, 3) for _ in range(axes)]
        kernel = [size(s, 4) for s in strides]
        attributes = {"kernel_shape": kernel, "strides": strides}
        if pick(True, False):
            attributes["pads"] = [size(0, k - 1) for k in kernel] * 2
        else:
            attributes["auto_pad"] = pick("SAME_UPPER", "SAME_LOWER", "VALID")
        x = floats(size(1, 2), size(1, 5), *[size(8, 13) for _ in range(axes)])
        run(f"LpPool {attributes}", "LpPool", [x], opset=pick(11, 18), p=pick(1, 2, 3), **attributes)
        nodes = [node("MaxPool", ["x"], ["p", "i"], **attributes), cast("i", "y")]
        graph(f"MaxPool's indices {attributes}", nodes, {"x": x}, {}, ["p", "y"], opset=pick(8, 12))
    run("MaxPool's indices by columns", "MaxPool", [floats(2, 3, 6, 5)], outputs=2, kernel_shape=[2, 2], storage_order=1)
    for dims in ((2, 3, 8), (2, 3, 8, 6)):
        kernel = {"kernel_shape": [2] * (len(dims) - 2), "strides": [2] * (len(dims) - 2)}
        nodes = [node("MaxPool", ["x"], ["p", "i"], **kernel), node("MaxUnpool", ["p", "i"], ["y"], **kernel)]
        graph("MaxUnpool", nodes, {"x": floats(*dims)}, {}, ["y"], opset=pick(9, 11))
    nodes = [node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2]), node("MaxUnpool", ["p", "i", "s"], ["y"], kernel_shape=[2, 2], strides=[2, 2])]
    graph("MaxUnpool to a size", nodes, {"x": floats(1, 2, 4, 6)}, {"s": i64(1, 2, 4, 6)}, ["y"], opset=11)
    for p in (1, 2, 3):
        run("GlobalLpPool", "GlobalLpPool", [floats(2, 3, 4, 5)], p=p)
    run("GlobalLpPool", "GlobalLpPool", [floats(2, 3, 4)])


def volumes():
    for _ in range(14):
        groups = pick(1, 1, 2)
        c, o = groups * size(1, 3), groups * size(1, 3)
        kernel = [size(1, 3) for _ in range(3)]
        attributes = {"group": groups, "strides": [size(1, 2) for _ in range(3)]}
        mode = pick("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
        if mode == "NOTSET":
            attributes["pads"] = [size(0, 2) for _ in range(6)]
            attributes["dilations"] = [size(1, 2) for _ in range(3)]
        else:
            attributes["auto_pad"] = mode
        x = floats(size(1, 2), c, *[size(5, 7) for _ in range(3)])
        run(f"Conv 3D {attributes} {kernel}", "Conv", [x], [floats(o, c // groups, *kernel)] + pick([], [floats(o)]), after=pick([], [("Relu", {})]), **attributes)
    for _ in range(10):
        groups = pick(1, 1, 2)
        c, o = groups * size(1, 3), size(1, 3)
        strides = [size(1, 3) for _ in range(3)]
        kernel = [size(max(1, s), 4) for s in strides]
        attributes = {"group": groups, "strides": strides}
        if pick(True, True, False):
            attributes["pads"] = [size(0, k - 1) // 2 for k in kernel] * 2
            attributes["output_padding"] = [size(0, s - 1) for s in strides]
        else:
            attributes["auto_pad"] = pick("SAME_UPPER", "SAME_LOWER")
        x = floats(size(1, 2), c, *[size(3, 5) for _ in range(3)])
        run(f"ConvTranspose 3D {attributes} {kernel}", "ConvTranspose", [x], [floats(c, o, *kernel)] + pick([], [floats(o * groups)]), **attributes)
    run("ConvTranspose 3D to a size", "ConvTranspose", [floats(1, 3, 3, 4, 3)], [floats(3, 2, 3, 2, 3)], strides=[2, 2, 1], output_shape=[6, 7, 4])
    for _ in range(12):
        op = pick("MaxPool", "AveragePool")
        strides = [size(1, 2) for _ in range(3)]
        kernel = [size(s, 3) for s in strides]
        attributes = {"kernel_shape": kernel, "strides": strides}
        attributes |= {"count_include_pad": pick(0, 1)} if op == "AveragePool" else {}
        x = floats(size(1, 2), size(1, 3), *[size(5, 8) for _ in range(3)])
        mode = pick("NOTSET", "NOTSET", "SAME_UPPER", "VALID")
        if mode == "NOTSET":
            pads = [size(0, k - 1) for k in kernel]
            # ONNX Runtime counts a last window behind the input where it infers shapes, and not where it runs.
            inside = all(-(-(n + 2 * p - k) // s) * s < n + p for n, p, k, s in zip(x.shape[2:], pads, kernel, strides))
            attributes |= {"pads": pads * 2, "ceil_mode": pick(0, 1) if inside else 0}
        else:
            attributes["auto_pad"] = mode
        run(f"{op} 3D {attributes}", op, [x], **attributes)
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        run(op, op, [floats(2, 3, 4, 3, 2)])
    run("Resize 3D", "Resize", [floats(1, 2, 3, 4, 5)], [None, np.array([1, 1, 2, 2, 2], F)], mode="nearest")


def comparisons():
    a, b = floats(2, 3, 4), floats(3, 1)
    for op, opset in (("Greater", 7), ("Less", 9), ("Equal", 11), ("GreaterOrEqual", 12), ("LessOrEqual", 16)):
        graph(op, [node(op, ["a", "b"], ["c"]), cast("c", "y")], {"a": np.round(a), "b": np.round(b)}, {}, ["y"], opset=opset)
        graph(f"{op} a constant", [node(op, ["a", "b"], ["c"]), cast("c", "d"), node("Mul", ["a", "d"], ["y"])], {"a": a}, {"b": np.array(0, F)}, ["y"], opset=pick(13, 21))
    for op in ("And", "Or", "Xor"):
        nodes = [node("Greater", ["a", "z"], ["c"]), node("Less", ["b", "z"], ["d"]), node(op, ["c", "d"], ["e"]), node("Not", ["e"], ["f"]), cast("f", "y")]
        graph(op, nodes, {"a": a, "b": b}, {"z": np.array(0, F)}, ["y"], opset=pick(13, 21))
        graph(f"{op} of bools", [node(op, ["a", "b"], ["y"])], {"a": a > 0, "b": b > 0}, {}, ["y"])
    graph("Where at run", [node("Greater", ["a", "b"], ["c"]), node("Where", ["c", "a", "b"], ["y"])], {"a": a, "b": b}, {}, ["y"])
    graph("Where of bools", [node("Where", ["c", "a", "b"], ["y"])], {"a": a, "b": b, "c": b > 0}, {}, ["y"])
    mask = (floats(3, 1) > 0) | np.array([[True], [False], [False]])
    mask[2] = False
    graph("Where by a constant", [node("Where", ["c", "a", "low"], ["y"])], {"a": a}, {"c": mask, "low": np.array(-1e9, F)}, ["y"])
    graph("Where of integers", [node("Where", ["c", "a", "b"], ["y"])], {"a": i64(1, 2, 3), "c": np.array([True, False, True])}, {"b": i64(7, 8, 9)}, ["y"])
    for kind in (np.uint8, np.int32, np.int64, np.float64, np.float16, np.int8, np.uint16):
        x = rng.integers(0, 100, (2, 3)).astype(kind)
        graph(f"from {kind.__name__}", [cast("x", "f"), node("Mul", ["f", "k"], ["y"])], {"x": x}, {"k": np.array(0.5, F)}, ["y"])
    graph("Cast to an integer", [cast("x", "i", TensorProto.INT64), cast("i", "y")], {"x": floats(20) * 10}, {}, ["y"])
    graph("Cast to a bool", [cast("x", "i", TensorProto.BOOL), cast("i", "y")], {"x": np.round(floats(20))}, {}, ["y"])
    graph("CastLike", [node("CastLike", ["x", "i"], ["j"]), node("CastLike", ["j", "x"], ["y"])], {"x": floats(20) * 10}, {"i": i64(1)}, ["y"], opset=15)
    p, q = rng.integers(-50, 50, (4, 5)), rng.integers(1, 9, 5) * rng.choice([-1, 1], 5)
    for op in ("Add", "Sub", "Mul", "Div", "Min", "Max"):
        graph(f"{op} of integers", [node(op, ["a", "b"], ["y"])], {"a": p, "b": q}, {}, ["y"])
        graph(f"{op} of an integer", [node(op, ["a", "b"], ["y"])], {"a": p}, {"b": q}, ["y"])
    graph("Pow of integers", [node("Pow", ["a", "k"], ["y"])], {"a": p}, {"k": np.array(3)}, ["y"])
    graph("Pow by an integer", [node("Pow", ["x", "k"], ["y"])], {"x": floats(3, 4)}, {"k": np.array(3)}, ["y"])
    graph("Mod of integers", [node("Mod", ["a", "b"], ["y"])], {"a": p, "b": q}, {}, ["y"])
    graph("fmod of integers", [node("Mod", ["a", "b"], ["y"], fmod=1)], {"a": p, "b": q}, {}, ["y"])
    graph("fmod", [node("Mod", ["a", "b"], ["y"], fmod=1)], {"a": floats(4, 5) * 9, "b": np.abs(floats(5)) + F(1)}, {}, ["y"])
    graph("ReduceSum of integers", [node("ReduceSum", ["a"], ["y"], keepdims=0)], {"a": p}, {}, ["y"])
    graph("ReduceMean of integers", [node("ReduceMean", ["a"], ["y"], keepdims=0)], {"a": p.astype(np.int32)}, {}, ["y"], opset=18)
    graph("Embedding", [node("Gather", ["t", "i"], ["y"])], {"i": rng.integers(-7, 7, (2, 3))}, {"t": floats(7, 4)}, ["y"])
    for axis in (0, 1, -1):
        graph("Gather at run", [node("Gather", ["x", "i"], ["y"], axis=axis)], {"x": floats(4, 4, 4), "i": rng.integers(-4, 4, (2, 3))}, {}, ["y"])


def orders():
    x = np.round(floats(3, 5, 4) * 2)
    for op in ("ArgMax", "ArgMin"):
        for axis in (0, 1, -1):
            for last in (0, 1):
                run(op, op, [x], opset=pick(12, 13), axis=axis, keepdims=pick(0, 1), select_last_index=last)
        run(op, op, [x], opset=7)
    for axis in (0, 1, -1):
        for largest in (0, 1):
            run("TopK", "TopK", [floats(3, 5, 4)], [i64(3)], opset=11, outputs=2, axis=axis, largest=largest)
        run("TopK of equals", "TopK", [x], [i64(2)], opset=11, outputs=2, axis=axis)
    run("TopK", "TopK", [floats(3, 5)], [i64(2)], opset=10, outputs=2)
    run("TopK", "TopK", [floats(3, 5)], opset=9, outputs=2, k=2)
    for axis in (0, 2, -2):
        for exclusive in (0, 1):
            for reverse in (0, 1):
                run("CumSum", "CumSum", [x], [np.array(axis)], exclusive=exclusive, reverse=reverse)
    for upper in (0, 1):
        for k in ([], [np.array(1)], [np.array(-2)]):
            run("Trilu", "Trilu", [floats(2, 4, 5)], k, upper=upper)
    for axis in (0, 1, -1):
        graph("OneHot", [node("OneHot", ["i", "d", "v"], ["y"], axis=axis)], {"i": rng.integers(-6, 6, (2, 3))}, {"d": np.array(6), "v": np.array([0.5, 2], F)}, ["y"])


def boxes():
    for centre in (0, 1):
        for classes in (1, 3):
            corner = np.abs(floats(2, 20, 2)) * 4
            box = np.concatenate([corner, corner + 1 + np.abs(floats(2, 20, 2)) * 3], -1).astype(F)
            scores = rng.random((2, classes, 20)).astype(F)
            for most, limits in ((3, [0.4, 0.2]), (100, [0.5]), (20, [])):
                names = ["b", "s", "n", *[f"l{i}" for i in range(len(limits))]]
                constants = {"n": i64(most)} | {f"l{i}": np.array([v], F) for i, v in enumerate(limits)}
                graph("NonMaxSuppression", [node("NonMaxSuppression", names, ["y"], center_point_box=centre)], {"b": box, "s": scores}, constants, ["y"], opset=pick(10, 11))


def places():
    x = floats(3, 5, 4)
    for axis in (0, 1, 2, -1):
        dims = [2, 3, 4]
        indices = rng.integers(-x.shape[axis], x.shape[axis], dims)
        graph("GatherElements", [node("GatherElements", ["x", "i"], ["y"], axis=axis)], {"x": x}, {"i": indices}, ["y"])
        graph("GatherElements at run", [node("GatherElements", ["x", "i"], ["y"], axis=axis)], {"x": x, "i": indices}, {}, ["y"])
        indices = np.argsort(rng.random(x.shape), axis=axis)
        for reduction in ("none", "add", "mul", "min", "max"):
            nodes = [node("ScatterElements", ["x", "i", "u"], ["y"], axis=axis, reduction=reduction)]
            graph(f"ScatterElements {reduction}", nodes, {"x": x, "u": floats(*x.shape)}, {"i": indices}, ["y"], opset=18)
            graph(f"ScatterElements {reduction} at run", nodes, {"x": x, "u": floats(*x.shape), "i": indices}, {}, ["y"], opset=18)
    graph("ScatterElements twice", [node("ScatterElements", ["x", "i", "u"], ["y"], axis=1, reduction="add")], {"x": x, "u": floats(2, 4, 3)}, {"i": rng.integers(-5, 5, (2, 4, 3))}, ["y"], opset=18)
    graph("Scatter", [node("Scatter", ["x", "i", "u"], ["y"], axis=1)], {"x": x, "u": floats(1, 2, 1)}, {"i": i64(1, 3).reshape(1, 2, 1)}, ["y"], opset=9)
    for depth in (1, 2, 3):
        extents = np.array(x.shape[:depth])
        indices = rng.integers(-extents, extents, (2, 3, depth))
        unique = np.stack(np.unravel_index(rng.permutation(int(np.prod(extents)))[:3], extents), -1)
        for at_run in (False, True):
            split = lambda inputs, i: (inputs | {"i": i}, {}) if at_run else (inputs, {"i": i})
            graph("GatherND", [node("GatherND", ["x", "i"], ["y"])], *split({"x": x}, indices), ["y"], opset=pick(11, 13))
            updates = floats(3, *x.shape[depth:])
            for reduction in ("none", "add", "max"):
                nodes = [node("ScatterND", ["x", "i", "u"], ["y"], reduction=reduction)]
                graph(f"ScatterND {reduction}", nodes, *split({"x": x, "u": updates}, unique), ["y"], opset=18)
    graph("GatherND of batches", [node("GatherND", ["x", "i"], ["y"], batch_dims=1)], {"x": x}, {"i": rng.integers(0, 5, (3, 2, 1))}, ["y"], opset=12)
    for equation, dims in (
        ("ij,jk->ik", [(3, 4), (4, 5)]), ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]), ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("i,j->ij", [(3,), (4,)]), ("ij->ji", [(3, 4)]), ("ij->i", [(3, 4)]), ("ij->", [(3, 4)]), ("ii->i", [(4, 4)]),
        ("bchw,c->bhw", [(2, 3, 4, 5), (3,)]), ("...ij,...jk->...ik", [(2, 3, 4), (1, 4, 5)]), ("ij,jk", [(3, 4), (4, 5)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]), ("bnd,bnd->bn", [(2, 3, 4), (2, 3, 4)]), ("i,i->", [(5,), (5,)]), ("...i->...", [(2, 3, 4)]),
        ("nctkv,kvw->nctw", [(2, 3, 4, 2, 5), (2, 5, 6)]),
    ):
        run(f"Einsum {equation}", "Einsum", [floats(*d) for d in dims], opset=12, equation=equation)
    run("Pad wrap", "Pad", [x], [np.array([0, 2, 7, 0, 3, 1])], opset=19, mode="wrap")


def samples():
    for _ in range(10):
        mode, padding, corners = pick("nearest", "linear", "cubic"), pick("zeros", "border", "reflection"), pick(0, 1)
        x, grid = floats(2, 3, size(2, 6), size(2, 6)), floats(2, 4, 3, 2)
        old = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
        for opset, name in ((16, old), (20, mode)):
            attributes = dict(mode=name, padding_mode=padding, align_corners=corners)
            graph(f"GridSample {attributes}", [node("GridSample", ["x", "g"], ["y"], **attributes)], {"x": x}, {"g": grid}, ["y"], opset=opset)
            run(f"GridSample at run {attributes}", "GridSample", [x, grid], opset=opset, **attributes)
    for mode in ("nearest", "linear"):
        attributes = dict(mode=mode, padding_mode=pick("zeros", "border", "reflection"), align_corners=pick(0, 1))
        run(f"GridSample 3D {attributes}", "GridSample", [floats(1, 2, 3, 4, 5), floats(1, 2, 3, 2, 3)], opset=20, **attributes)
    corner = np.sort(np.abs(floats(3, 2, 2)) * 3, axis=1).reshape(3, 4)
    for mode in ("avg", "max"):
        for transform in ("half_pixel", "output_half_pixel"):
            attributes = dict(output_height=3, output_width=2, sampling_ratio=2, spatial_scale=0.8, mode=mode, coordinate_transformation_mode=transform)
            graph(f"RoiAlign {attributes}", [node("RoiAlign", ["x", "r", "b"], ["y"], **attributes)], {"x": floats(2, 3, 6, 5), "r": corner}, {"b": i64(0, 1, 1)}, ["y"], opset=16)
    x = floats(1, 2, 9, 8)
    for mode in ("linear", "cubic"):
        for exclude in (0, 1):
            to = i64(1, 2, size(3, 12), size(3, 12))
            run(f"Resize antialias {mode} {exclude}", "Resize", [x], [None, None, to], opset=18, mode=mode, antialias=1, exclude_outside=exclude)
            scales = np.array([1, 1, pick(0.4, 0.6, 1.5), pick(0.3, 0.7, 2)], F)
            run(f"Resize antialias {mode} {exclude} {scales}", "Resize", [x], [None, scales], opset=19, mode=mode, antialias=1, exclude_outside=exclude)
    run("Resize exclude_outside", "Resize", [x], [None, np.array([1, 1, 1.5, 2.5], F)], opset=13, mode="cubic", exclude_outside=1)
    for policy in ("not_larger", "not_smaller"):
        for mode in ("nearest", "linear", "cubic"):
            run(f"Resize {policy} {mode}", "Resize", [x], [None, None, i64(size(3, 20), size(3, 20))], opset=18, mode=mode, axes=[2, 3], keep_aspect_ratio_policy=policy)
    for mode in ("nearest", "linear"):
        roi = np.array([0, 0, 0.1, 0.2, 1, 1, 0.8, 1.3], F)
        attributes = dict(mode=mode, coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=pick(0.0, 2.5))
        run(f"Resize crop {attributes}", "Resize", [x], [roi, None, i64(1, 2, 5, 6)], opset=13, **attributes)


def recurrent():
    t, b, i, h = 5, 3, 4, 2
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for direction in ("forward", "reverse", "bidirectional"):
            d = 2 if direction == "bidirectional" else 1
            x, w, r = floats(t, b, i), floats(d, gates * h, i), floats(d, gates * h, h)
            outputs = 3 if op == "LSTM" else 2
            more = {"linear_before_reset": 1} if op == "GRU" else {}
            attributes = dict(hidden_size=h, direction=direction)
            run(f"{op} {attributes}", op, [x], [w, r], opset=pick(7, 14, 21), outputs=outputs, **attributes)
            run(f"{op} bias {attributes}", op, [x], [w, r, floats(d, 2 * gates * h)], opset=14, outputs=outputs, **attributes, **more)
            state = [floats(d, b, h)] + ([floats(d, b, h)] if op == "LSTM" else [])
            bias = floats(d, 2 * gates * h)
            run(f"{op} state {attributes}", op, [x], [w, r, bias, None, *state], opset=14, outputs=outputs, **attributes)
            lengths = np.array([2, 5, 3], np.int32)
            run(f"{op} lengths {attributes}", op, [x], [w, r, bias, lengths], opset=14, outputs=outputs, **attributes)
            if op == "LSTM":
                run(f"{op} peepholes {attributes}", op, [x], [w, r, bias, None, *state, floats(d, 3 * h)], opset=14, outputs=outputs, **attributes)
    run("GRU clip", "GRU", [floats(t, b, i)], [floats(1, 3 * h, i), floats(1, 3 * h, h)], opset=14, outputs=2, hidden_size=h, clip=0.5)
    run("RNN Relu", "RNN", [floats(t, b, i)], [floats(1, h, i), floats(1, h, h)], opset=14, outputs=2, hidden_size=h, activations=["Relu"])


def quantised():
    s = lambda *v: np.array(v if len(v) > 1 else v[0], F)
    x = floats(2, 4, 7, 6)
    for kind, low, high in ((np.uint8, 0, 255), (np.int8, -128, 127), (np.uint16, 0, 65535), (np.int16, -32768, 32767)):
        opset = 21 if kind in (np.uint16, np.int16) else 13
        zero = np.array(rng.integers(low // 2, high // 2), kind)
        graph(f"Q DQ {kind.__name__}", [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])], {"x": x}, {"s": s(0.03), "z": zero}, ["y"], opset=opset, steps=1)
        zeros = rng.integers(low // 2, high // 2, 4).astype(kind)
        scales = np.abs(floats(4)) * F(0.05) + F(0.01)
        for axis in (1, -3):
            nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=axis), node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=axis)]
            graph(f"Q DQ per axis {kind.__name__}", nodes, {"x": x}, {"s": scales, "z": zeros}, ["y"], opset=opset)
        if kind in (np.uint8, np.int8):
            graph(f"DQ of an input {kind.__name__}", [node("DequantizeLinear", ["x", "s", "z"], ["y"])], {"x": rng.integers(low, high, (3, 4)).astype(kind)}, {"s": s(0.03), "z": zero}, ["y"], opset=13)
    for per_channel in (False, True):
        for kind, low, high in ((np.int8, -128, 128), (np.uint8, 0, 256)):
            o, c = 5, 4
            count = (o,) if per_channel else ()
            q = rng.integers(low, high, (o, c, 3, 3)).astype(kind)
            constants = {"q": q, "s": np.abs(floats(*count)) * F(0.1) + F(0.01), "b": rng.integers(-900, 900, o).astype(np.int32), "bs": np.abs(floats(*count)) * F(0.01) + F(0.001)}
            constants = {k: np.asarray(v) for k, v in constants.items()}
            names = ["q", "s"]
            if pick(True, False):
                constants["z"] = rng.integers(low, high, count).astype(kind)
                names.append("z")
            nodes = [node("DequantizeLinear", names, ["w"], axis=0), node("DequantizeLinear", ["b", "bs"], ["bias"], axis=0), node("Conv", ["x", "w", "bias"], ["y"], pads=[1, 1, 1, 1])]
            graph(f"QDQ weights {kind.__name__} per channel {per_channel}", nodes, {"x": x}, constants, ["y"], opset=13)
            m = {"q": rng.integers(low, high, (6, o)).astype(kind), "s": constants["s"]}
            for turned in (0, 1):
                matrix = m | ({"q": m["q"].T.copy()} if turned else {})
                nodes = [node("DequantizeLinear", ["q", "s"], ["w"], axis=0 if turned else 1), node("Gemm", ["x", "w"], ["y"], transB=turned)]
                graph("QDQ Gemm", nodes, {"x": floats(3, 6)}, matrix, ["y"], opset=13)
            graph("QDQ MatMul", [node("DequantizeLinear", ["q", "s"], ["w"], axis=1), node("MatMul", ["x", "w"], ["y"])], {"x": floats(2, 3, 6)}, m, ["y"], opset=13)
    # A step more or less of the last activation counts as an error: these are of whole numbers.
    whole = rng.integers(-20, 20, (2, 4, 7, 6)).astype(F)
    zero, point = np.array(3, np.uint8), np.array(100, np.uint8)
    for per_channel in (False, True):
        count = (5,) if per_channel else ()
        weights = {"w": rng.integers(-3, 4, (5, 4, 3, 3)).astype(np.int8), "ws": np.asarray(np.full(count, 1, F)), "wz": np.zeros(count, np.int8), "b": rng.integers(-9, 9, 5).astype(np.int32)}
        scales = {"s": s(1.0), "z": point, "ys": s(8.0), "yz": zero}
        nodes = [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "ys", "yz"] + pick([], ["b"]), ["p"], pads=[1, 1, 1, 1]),
            node("DequantizeLinear", ["p", "ys", "yz"], ["y"]),
        ]
        graph("QLinearConv", nodes, {"x": whole}, weights | scales, ["y"], opset=pick(10, 13) if not per_channel else 13)
        nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("ConvInteger", ["q", "w", "z", "wz"] if not per_channel else ["q", "w", "z"], ["p"], pads=[1, 1, 1, 1], strides=[2, 1]), cast("p", "y")]
        graph("ConvInteger", nodes, {"x": whole}, {k: v for k, v in (weights | scales).items() if k in ("s", "z", "w") or k == "wz" and not per_channel}, ["y"], opset=13)
    a = rng.integers(-20, 20, (2, 3, 6)).astype(F)
    scales = {"s": s(1.0), "z": point, "w": rng.integers(-4, 5, (6, 5)).astype(np.int8), "ws": s(0.5), "wz": np.array(1, np.int8), "ys": s(4.0), "yz": zero}
    quantise = node("QuantizeLinear", ["x", "s", "z"], ["q"])
    graph("QLinearMatMul", [quantise, node("QLinearMatMul", ["q", "s", "z", "w", "ws", "wz", "ys", "yz"], ["p"]), node("DequantizeLinear", ["p", "ys", "yz"], ["y"])], {"x": a}, scales, ["y"], opset=13)
    used = lambda *names: {n: scales[n] for n in names}
    graph("MatMulInteger", [quantise, node("MatMulInteger", ["q", "w", "z", "wz"], ["p"]), cast("p", "y")], {"x": a}, used("s", "z", "w", "wz"), ["y"], opset=13)
    nodes = [quantise, node("MatMulInteger", ["q", "w", "z", "wn"], ["p"]), cast("p", "y")]
    graph("MatMulInteger per column", nodes, {"x": a}, used("s", "z", "w") | {"wn": rng.integers(-3, 3, 5).astype(np.int8)}, ["y"], opset=13)
    half = np.arange(-12, 12).reshape(2, 3, 4).astype(F) * F(0.5)
    nodes = [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    graph("DynamicQuantizeLinear", nodes, {"x": half}, {}, ["y", "s"], opset=13)
    graph("DynamicQuantizeLinear of zeros", nodes, {"x": np.zeros((2, 3), F)}, {}, ["y"], opset=13)
    ms = lambda op, *args, **attributes: node(op, *args, domain=MICROSOFT, **attributes)
    # No halves: ONNX Runtime rounds some of them with the zero point added already.
    other = {"s": s(1.0), "z": point, "ys": s(5.0), "yz": zero}
    behind = node("DequantizeLinear", ["p", "ys", "yz"], ["y"])
    second = node("QuantizeLinear", ["x2", "s", "z"], ["q2"])
    for op in ("QLinearAdd", "QLinearMul"):
        graph(op, [quantise, second, ms(op, ["q", "s", "z", "q2", "s", "z", "ys", "yz"], ["p"]), behind], {"x": a, "x2": np.abs(a[:, :1])}, other, ["y"], opset=13)
    graph("QLinearConcat", [quantise, second, ms("QLinearConcat", ["ys", "yz", "q", "s", "z", "q2", "s", "z"], ["p"], axis=1), behind], {"x": a, "x2": a[:, :1]}, other, ["y"], opset=13)
    graph("QLinearWhere", [quantise, second, ms("QLinearWhere", ["k", "q", "s", "z", "q2", "s", "z", "ys", "yz"], ["p"]), behind], {"x": a, "x2": a[:, :1]}, other | {"k": a[0] > 0}, ["y"], opset=13)
    graph("QLinearLeakyRelu", [quantise, ms("QLinearLeakyRelu", ["q", "s", "z", "ys", "yz"], ["p"], alpha=0.5), behind], {"x": a}, other, ["y"], opset=13)
    graph("QLinearSigmoid", [quantise, ms("QLinearSigmoid", ["q", "s", "z", "ys", "yz"], ["p"]), behind], {"x": a}, other | {"ys": s(1 / 256)}, ["y"], opset=13)
    graph("QLinearGlobalAveragePool", [quantise, ms("QLinearGlobalAveragePool", ["q", "s", "z", "ys", "yz"], ["p"], channels_last=0), behind], {"x": whole}, other | {"ys": s(1.0)}, ["y"], opset=13)
    graph("QLinearAveragePool", [quantise, ms("QLinearAveragePool", ["q", "s", "z", "ys", "yz"], ["p"], kernel_shape=[2, 2]), behind], {"x": whole * 4}, other | {"s": s(4.0), "ys": s(1.0)}, ["y"], opset=13)
    b = {"w": rng.integers(-4, 5, (6, 5)).astype(np.int8), "ws": s(0.5), "wz": np.array(0, np.int8), "c": rng.integers(-20, 20, 5).astype(np.int32)}
    for turned in (0, 1):
        matrix = b | ({"w": b["w"].T.copy()} if turned else {})
        nodes = [quantise, ms("QGemm", ["q", "s", "z", "w", "ws", "wz", "c"], ["y"], transB=turned)]
        graph("QGemm to floats", nodes, {"x": a[0]}, matrix | {"s": s(1.0), "z": point}, ["y"], opset=13)
    graph("DynamicQuantizeMatMul", [ms("DynamicQuantizeMatMul", ["x", "w", "ws", "wz", "c"], ["y"])], {"x": half}, {"w": b["w"][:4], "ws": s(0.5), "wz": np.array(0, np.int8), "c": floats(5)}, ["y"], opset=13)
    nodes = [quantise, ms("MatMulIntegerToFloat", ["q", "w", "s", "ws", "z", "wz", "c"], ["y"])]
    graph("MatMulIntegerToFloat", nodes, {"x": a}, b | {"s": s(1.0), "z": point, "c": floats(5)}, ["y"], opset=13)
    for bits in (2, 4, 8):
        for k, block in ((32, 16), (40, 16), (64, 32)):
            n, blocks = 5, -(-k // block)
            packed = rng.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8)
            constants = {"q": packed, "s": floats(n * blocks)}
            names = ["x", "q", "s"]
            if pick(True, False):
                constants["z"] = rng.integers(0, 256, n * -(-blocks * bits // 8)).astype(np.uint8)
                names.append("z")
            nodes = [ms("MatMulNBits", names, ["y"], K=k, N=n, bits=bits, block_size=block)]
            graph(f"MatMulNBits {bits} {k} {block} {names}", nodes, {"x": floats(2, 3, k)}, constants, ["y"], opset=17)
    graph("QDQ of com.microsoft", [ms("QuantizeLinear", ["x", "s", "z"], ["q"]), ms("DequantizeLinear", ["q", "s", "z"], ["y"])], {"x": x}, {"s": s(0.03), "z": np.array(7, np.int8)}, ["y"], opset=13)
    w = {"w": floats(5, 4, 3, 3), "b": floats(5)}
    graph("FusedConv", [ms("FusedConv", ["x", "w", "b"], ["y"], activation="LeakyRelu", activation_params=[0.3], pads=[1, 1, 1, 1])], {"x": x}, w, ["y"], opset=17)
    graph("FusedConv and a sum", [ms("FusedConv", ["x", "w", "b", "z"], ["y"], activation="Relu", pads=[1, 1, 1, 1])], {"x": x, "z": floats(2, 5, 7, 6)}, w, ["y"], opset=17)
    for turned in (0, 1):
        m = floats(5, 6) if turned else floats(6, 5)
        graph("FusedMatMul", [ms("FusedMatMul", ["x", "w"], ["y"], transB=turned, alpha=0.5)], {"x": a}, {"w": m}, ["y"], opset=17)


def bodies():
    x = floats(2, 3, 4)
    value = lambda n, kind=TensorProto.FLOAT, dims=None: helper.make_tensor_value_info(n, kind, dims)
    then = helper.make_graph([node("Mul", ["x", "two"], ["t"])], "then", [], [value("t")])
    other = helper.make_graph([node("Add", ["x", "two"], ["e"])], "else", [], [value("e")])
    two = {"two": np.array(2, F)}
    for holds in (True, False):
        graph("If of a constant", [node("If", ["c"], ["y"], then_branch=then, else_branch=other)], {"x": x}, two | {"c": np.array(holds)}, ["y"])
        shape = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "at"], ["d"]), node("Equal", ["d", "want"], ["c"])]
        graph("If of a size", [*shape, node("If", ["c"], ["y"], then_branch=then, else_branch=other)], {"x": x}, two | {"at": np.array(1), "want": np.array(3 if holds else 1)}, ["y"], fixed=True)
    # The branch that is not taken would be wrong: no axis is 1.
    squeeze = helper.make_graph([node("Squeeze", ["x", "at"], ["t"])], "then", [], [value("t")])
    for at, dims in ((1, (2, 3, 4)), (1, (2, 1, 4))):
        shape = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "at"], ["d"]), node("Equal", ["d", "want"], ["c"])]
        nodes = [*shape, node("If", ["c"], ["y"], then_branch=squeeze, else_branch=other)]
        graph("If of an open size", nodes, {"x": floats(*dims)}, two | {"at": i64(at), "want": i64(1)}, ["y"], open=True)
    turn = helper.make_graph(
        [node("Identity", ["c"], ["co"]), node("Mul", ["v", "two"], ["vo"]), node("Add", ["v", "x"], ["scan"])],
        "body", [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []), value("v", dims=[2, 3, 4])],
        [value("co", TensorProto.BOOL, []), value("vo", dims=[2, 3, 4]), value("scan", dims=[2, 3, 4])],
    )
    graph("Loop", [node("Loop", ["m", "c", "x"], ["y", "z"], body=turn)], {"x": x}, two | {"m": np.array(3), "c": np.array(True)}, ["y", "z"])
    graph("Loop without a condition", [node("Loop", ["m", "", "x"], ["y", "z"], body=turn)], {"x": x}, two | {"m": np.array(2)}, ["y", "z"])
    until = helper.make_graph(
        [node("Less", ["i", "last"], ["co"]), node("Mul", ["v", "two"], ["vo"])],
        "body", [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []), value("v", dims=[2, 3, 4])],
        [value("co", TensorProto.BOOL, []), value("vo", dims=[2, 3, 4])],
    )
    graph("Loop until a condition", [node("Loop", ["", "c", "x"], ["y"], body=until)], {"x": x}, two | {"c": np.array(True), "last": np.array(2)}, ["y"])
    step = helper.make_graph(
        [node("Add", ["a", "p"], ["ao"]), node("Mul", ["a", "p"], ["o"])],
        "body", [value("a", dims=[3, 4]), value("p", dims=[3, 4])], [value("ao", dims=[3, 4]), value("o", dims=[3, 4])],
    )
    for backwards in (0, 1):
        nodes = [node("Scan", ["a", "x"], ["y", "z"], body=step, num_scan_inputs=1, scan_input_directions=[backwards], scan_output_directions=[1 - backwards])]
        graph("Scan", nodes, {"a": floats(3, 4), "x": x}, {}, ["y", "z"], opset=11, fixed=True)
    relu = helper.make_function(
        "local", "ConvRelu", ["X", "W"], ["Y"],
        [node("Conv", ["X", "W"], ["c"], pads=[1, 1, 1, 1]), node("LeakyRelu", ["c"], ["Y"])], [helper.make_opsetid("", 21)], ["alpha"],
    )
    attribute = relu.node[1].attribute.add()
    attribute.name, attribute.ref_attr_name, attribute.type = "alpha", "alpha", 1
    image = floats(1, 3, 6, 5)
    graph("an input without a shape", [node("Sub", ["x", "m"], ["a"]), node("Conv", ["a", "w"], ["y"])], {"x": image}, {"m": np.array(0.5, F), "w": floats(4, 3, 3, 3)}, ["y"], shapeless=True)
    turns = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "at"], ["m"]), node("Loop", ["m", "", "x"], ["y", "z"], body=turn)]
    graph("Loop as often as a dim", turns, {"x": x}, two | {"at": np.array(1)}, ["y", "z"], fixed=True)
    inner = helper.make_function("local", "Biased", ["X", "B"], ["Y"], [node("Relu", ["X"], ["r"]), node("Identity", ["r"], ["Y"])], [helper.make_opsetid("", 21)])
    outer = helper.make_function(
        "local", "Twice", ["X", "B"], ["Y"], [node("Biased", ["X", ""], ["a"], domain="local"), node("Add", ["a", "B"], ["Y"])],
        [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)],
    )
    graph("nested functions", [node("Twice", ["x", "two"], ["y"], domain="local")], {"x": x}, two, ["y"], functions=[inner, outer])
    nodes = [node("ConvRelu", ["x", "w"], ["a"], domain="local", alpha=0.3), node("ConvRelu", ["a", "v"], ["y"], domain="local", alpha=0.6)]
    graph("functions", nodes, {"x": image}, {"w": floats(4, 3, 3, 3), "v": floats(2, 4, 3, 3)}, ["y"], functions=[relu])


for make in (functions, reductions, diagonals_and_sequences, norms, windows, volumes, comparisons, orders, boxes, places, samples, recurrent, quantised, bodies):
    make()
tools.writer.close()
