"""Random small graphs: what the scripts of operators have in common."""

import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from cases import Writer

F = np.float32
MICROSOFT = "com.microsoft"


class Graphs:
    def __init__(self, folder):
        self.writer = Writer(folder)
        self.rng = self.writer.rng

    def floats(self, *dims):
        return self.rng.normal(size=dims).astype(F)

    def pick(self, *options):
        return options[self.rng.integers(len(options))]

    def size(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def run(self, name, op, inputs, constants=(), opset=21, outputs=1, after=(), domain="", **attributes):
        """A node on run-time inputs (arrays) and constants (arrays, None for a missing one), then unary nodes."""
        names = [f"x{i}" for i in range(len(inputs))]
        consts = [(f"c{i}", c) for i, c in enumerate(constants)]
        ys = [f"y{i}" for i in range(outputs)]
        wanted = list(names) + ["" if c is None else n for n, c in consts]
        nodes = [helper.make_node(op, wanted, ys, name="node", domain=domain, **attributes)]
        for i, (more, extra) in enumerate(after):
            nodes.append(helper.make_node(more, [ys[0]], [f"z{i}"], **extra))
            ys[0] = f"z{i}"
        self.graph(name, nodes, dict(zip(names, inputs)), {n: c for n, c in consts if c is not None}, ys, opset)

    def graph(self, name, nodes, inputs, constants, outputs, opset=21, steps=None, functions=(), fixed=False, shapeless=False, open=False):
        """A model of these nodes. Its inputs' sizes are open half of the time, unless they must be fixed or open."""
        free = open or not fixed and self.rng.random() < 0.5
        kind = lambda x: helper.np_dtype_to_tensor_dtype(x.dtype)
        infos = [
            helper.make_tensor_value_info(n, kind(x), [None if free else d for d in x.shape])
            for n, x in inputs.items()
        ]
        for info in infos if shapeless else []:
            info.type.tensor_type.ClearField("shape")
        outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
        for out in outs:
            out.ClearField("type")
        tensor = lambda c, n: c if isinstance(c, TensorProto) else numpy_helper.from_array(np.asarray(c), n)
        body = helper.make_graph(nodes, "g", infos, outs, [tensor(c, n) for n, c in constants.items()])
        domains = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        domains += [helper.make_opsetid(f.domain, 1) for f in functions]
        model = helper.make_model(body, opset_imports=domains, functions=functions, ir_version=min(10, 8 if opset < 20 else 10))
        shapes = {n: x.shape for n, x in inputs.items()}
        try:
            self.writer.add(f"{name} opset {opset} {shapes}", model, inputs, steps=steps)
        except Exception as error:  # which case it was
            print(f"{name}: {nodes}", file=sys.stderr)
            raise error
