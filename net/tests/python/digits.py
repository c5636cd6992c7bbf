"""scikit-learn's handwritten digits, 1797 of them, as folders of classes to teach a network: learn/DIGIT/*.png and
test/DIGIT/*.png, every third one, 64 pixels wide.

Usage: digits.py FOLDER. Needs pip, and no packages.
"""

import csv
import gzip
import struct
import sys
import zlib
from pathlib import Path

from packages import extract

PACKAGE = "scikit-learn==1.9.1"
SIDE = 8
SCALE = 8


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows):
    """A grey picture of rows of bytes."""
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    lines = b"".join(b"\0" + bytes(row) for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def taps():
    """For each pixel of the larger picture two of the smaller one, and the share of the second: linear."""
    for at in range(SIDE * SCALE):
        place = min(max((at + 0.5) / SCALE - 0.5, 0), SIDE - 1)
        low = min(int(place), SIDE - 2)
        yield low, low + 1, place - low


def enlarged(levels):
    """Levels of 0 to 16, row by row, as a larger picture's rows of bytes."""
    pairs = list(taps())
    rows = [levels[SIDE * y : SIDE * (y + 1)] for y in range(SIDE)]
    wide = [[row[a] * (1 - t) + row[b] * t for a, b, t in pairs] for row in rows]
    value = lambda a, b, t, x: round((wide[a][x] * (1 - t) + wide[b][x] * t) * 255 / 16)
    return [[value(a, b, t, x) for x in range(SIDE * SCALE)] for a, b, t in pairs]


def main():
    folder = Path(sys.argv[1])
    store = folder / ".packages"
    store.mkdir(parents=True, exist_ok=True)
    (path,) = extract(PACKAGE, store, lambda name: name.endswith("datasets/data/digits.csv.gz"))
    with gzip.open(path, "rt") as file:
        for number, line in enumerate(csv.reader(file)):
            *levels, digit = (int(float(value)) for value in line)
            place = folder / ("test" if number % 3 == 0 else "learn") / str(digit)
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:04}.png").write_bytes(png(enlarged(levels)))
    print(f"{number + 1} digits in {folder}")


if __name__ == "__main__":
    main()
