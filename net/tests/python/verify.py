"""Runs the models of a folder's cases.json in onnx.checker and ONNX Runtime; the outputs must be the expected ones."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort


def read(array):
    return np.fromfile(array["file"], np.float32).reshape(array["dims"])


cases = json.loads((Path(sys.argv[1]) / "cases.json").read_text())
worst, failures = 0.0, []
for case in cases:
    try:
        onnx.checker.check_model(case["model"], full_check=True)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(case["model"], options, providers=["CPUExecutionProvider"])
        kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}
        given = zip(session.get_inputs(), case["inputs"], strict=True)
        outputs = session.run(None, {i.name: read(a).astype(kinds[i.type]) for i, a in given})
        outputs = [np.asarray(y, np.float32) for y in outputs]
        for y, expected in zip(outputs, map(read, case["outputs"]), strict=True):
            assert y.shape == expected.shape, f"shape {y.shape}, expected {expected.shape}"
            same = (y == expected) | (np.isnan(y) & np.isnan(expected))
            if same.all():
                continue
            error = float(np.abs(y - expected)[~same].max() / max(np.abs(expected[np.isfinite(expected)]).max(), 1e-30))
            worst = max(worst, error)
            assert error <= 1e-4, f"relative error {error}"
    except Exception as error:
        failures.append(f"{case['name']} ({case['model']}): {type(error).__name__}: {str(error)[:400]}")
print(f"{len(cases)} exported models, the worst relative error {worst:.1e}")
if failures:
    sys.exit("\n".join([f"{len(failures)} failures", *failures[:20]]))
