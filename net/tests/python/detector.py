"""Pictures with characters on them, and where ddddocr's detector finds these.

Writes into the folder: detector.onnx, pictures/, calibration/ and expected.json, which has for each picture ddddocr's
own answer (whole pixels), and boxes with scores computed in f64 of what ONNX Runtime makes of the same input.
"""

import json
import os
import random
import shutil
import sys
from pathlib import Path

import ddddocr
import numpy as np
from ddddocr.core.detection_engine import DetectionEngine
from PIL import Image, ImageDraw, ImageFont

SIZE = 416
CONFIDENCE, IOU = 0.1, 0.45
CHARACTERS = "ABCDEFGHJKLMNPRSTUVWXYZ2345678"


def picture(rng, width, height, count):
    """Characters of any colour, turned a little, on a smooth ground; and their boxes."""
    across, down = np.linspace(0, 1, width)[None, :, None], np.linspace(0, 1, height)[:, None, None]
    ground = rng.uniform(90, 200, 3) + across * rng.uniform(-60, 60, 3) + down * rng.uniform(-60, 60, 3)
    image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    boxes = []
    for place in range(count):
        side = int(height * rng.uniform(0.2, 0.35))
        glyph = Image.new("L", (2 * side, 2 * side))
        font = ImageFont.load_default(side)
        ImageDraw.Draw(glyph).text((side // 2, side // 2), rng.choice(list(CHARACTERS)), fill=255, font=font)
        glyph = glyph.rotate(rng.uniform(-20, 20), resample=Image.Resampling.BICUBIC)
        glyph = glyph.crop(glyph.getbbox())
        cell = width // count
        x = place * cell + int(rng.integers(0, max(1, cell - glyph.width)))
        y = int(rng.integers(0, height - glyph.height))
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        image.paste(Image.new("RGB", glyph.size, colour), (x, y), glyph)
        boxes.append((x, y, x + glyph.width, y + glyph.height))
    return image, boxes


def decoded(output):
    """Boxes and scores, from the definition of the head."""
    rows = output.astype(np.float64)
    cells = [(x, y, s) for s in (8, 16, 32) for y in range(SIZE // s) for x in range(SIZE // s)]
    found = []
    for (x, y, w, h, there, score), (column, line, stride) in zip(rows, cells, strict=True):
        x, y = (x + column) * stride, (y + line) * stride
        w, h = np.exp(w) * stride / 2, np.exp(h) * stride / 2
        if there * score > CONFIDENCE:
            found.append([x - w, y - h, x + w, y + h, there * score])
    return found


def overlap(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(area) - width * height)


def best(found):
    """Without what a better box covers."""
    kept = []
    for box in sorted(found, key=lambda box: -box[4]):
        if all(overlap(box, better) <= IOU for better in kept):
            kept.append(box)
    return kept


def expected(engine, image):
    """The boxes of a picture that is no larger than the input and needs no resizing."""
    levels = np.full((SIZE, SIZE, 3), 114, np.uint8)
    levels[: image.height, : image.width] = np.asarray(image)[:, :, ::-1]
    x = levels.transpose(2, 0, 1)[None].astype(np.float32)
    (output,) = engine.session.run(None, {engine.session.get_inputs()[0].name: x})
    limits = [image.width, image.height] * 2
    return [[*np.clip(box[:4], 0, limits).tolist(), box[4]] for box in best(decoded(output[0]))]


def clear(engine, image, drawn):
    """Whether every character is found and nothing else, by other thresholds too."""
    suppress = engine.multiclass_nms

    def answer(confidence, iou):
        engine.multiclass_nms = lambda boxes, scores, nms_thr, score_thr: suppress(boxes, scores, iou, confidence)
        boxes = engine.predict(image)
        engine.multiclass_nms = suppress
        return boxes

    boxes = answer(0.05, 0.55)
    if len(boxes) != len(drawn) or boxes != answer(0.5, 0.35):
        return False
    return all(any(overlap(box, character) > 0.5 for box in boxes) for character in drawn)


def main():
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    seed = int(os.environ.get("DSCONV_SEED", random.randrange(1 << 32)))
    print(f"DSCONV_SEED={seed}")
    rng = np.random.default_rng(seed)
    shutil.copy(Path(ddddocr.__file__).parent / "common_det.onnx", folder / "detector.onnx")
    engine = DetectionEngine()
    for name in ("pictures", "calibration"):
        (folder / name).mkdir()
    for index in range(6):
        picture(rng, SIZE, 220, 5)[0].save(folder / "calibration" / f"{index}.png")
    answers = []
    while len(answers) < count:
        # Every third picture is larger than the input.
        width, height = (900, 480) if len(answers) % 3 == 2 else (SIZE, int(rng.integers(160, SIZE)))
        image, drawn = picture(rng, width, height, int(rng.integers(3, 6)))
        if not clear(engine, image, drawn):
            continue
        path = folder / "pictures" / f"{len(answers)}.png"
        image.save(path)
        boxes = expected(engine, image) if width == SIZE else None
        answers.append({"picture": str(path), "theirs": engine.predict(image), "boxes": boxes})
    (folder / "expected.json").write_text(json.dumps(answers))


main()
