"""The shipped model under other versions: ``python -m tests.versions.matrix [ROW ...] [--folder DIR]``.

A row is a list of pins, with another interpreter in front if it is not this one; each prints what came out:

    onnxruntime==1.23.0                          over the packages of this environment
    python3.10:numpy==2.0.0,onnx==1.19.0,...     in an environment of its own, where what has no pin is as old as
                                                 pyproject.toml allows

Without rows, every minor release of ONNX Runtime from the oldest supported one on, and ``OLDEST``. Needs the package
index.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

CHECKOUT = Path(__file__).resolve().parents[2]
RUNTIMES = ("1.23.0", "1.24.1", "1.25.0", "1.26.0", "1.27.0", "1.28.0", "1.29.0", "1.30.0", "1.31.1")
OLDEST = "python3.10:"  # no pins: the oldest of everything
# Integers are equal, and the outputs follow from them by float operations that ONNX Runtime may order differently.
LIBRARY_TOLERANCE = 1e-4
# In front of a quantizer such a difference may move a value over a boundary.
BODIES_TOLERANCE = 2e-2


def main(words: Sequence[str] | None = None) -> int:
    """Returns 1 if any row failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.versions.matrix", description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", default=[*(f"onnxruntime=={version}" for version in RUNTIMES), OLDEST])
    parser.add_argument("--folder", type=Path, help="keep environments and files here, and go on with them")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(exist_ok=True)
        reference = _reference(folder)
        print("| Python | onnxruntime | onnx | numpy | library | bodies | compiled here |")
        print("|---|---|---|---|---|---|---|")
        good = [_row(folder, number, row, reference) for number, row in enumerate(options.rows)]
    return int(not all(good))


def _reference(folder: Path) -> dict[str, np.ndarray]:
    """The outputs under this environment's versions, of a model that it compiles."""
    from qcompiler import CompileOptions, compile_model

    out = folder / "reference.npz"
    if out.exists():
        with np.load(out) as file:
            return dict(file)
    models = CHECKOUT / "models"
    (folder / "float.onnx").write_bytes((models / "digits_vit.onnx").read_bytes())
    (folder / "calib.npz").write_bytes((models / "digits_vit.calib.npz").read_bytes())
    options = CompileOptions(bits="w4a8", effort="low", images=16, probe_images=2, trial_images=4, threads=1)
    compile_model(folder / "float.onnx", options, folder / "calib.npz", output=folder / "compiled.onnx")
    return _probe([sys.executable], folder, out, {})


def _row(folder: Path, number: int, row: str, reference: dict[str, np.ndarray]) -> bool:
    python, _, pins = row.rpartition(":")
    wanted = [pin for pin in pins.split(",") if pin]
    try:
        if python:
            command, environment = [str(_environment(folder / f"row{number}", folder, python, wanted))], {}
        else:
            overlay = folder / f"row{number}"
            _pip([sys.executable], "install", "--no-deps", "--target", str(overlay), *wanted)
            command, environment = [sys.executable], {"PYTHONPATH": str(overlay)}
        found = _probe(command, folder, folder / f"row{number}.npz", environment)
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr or "").splitlines() if line.strip()]
        print(f"| {row} | failed: {lines[-1] if lines else error} |", flush=True)
        return False
    versions = json.loads(str(found["versions"]))
    errors = {way: _relative(found[way], reference[way]) for way in ("library", "bodies", "compiled")}
    cells = [versions[name] for name in ("python", "onnxruntime", "onnx", "numpy")]
    print("| " + " | ".join([*cells, *(f"{error:.1e}" for error in errors.values())]) + " |", flush=True)
    return errors["library"] <= LIBRARY_TOLERANCE and max(errors["bodies"], errors["compiled"]) <= BODIES_TOLERANCE


def _environment(place: Path, folder: Path, python: str, pins: Sequence[str]) -> Path:
    """A virtual environment with a wheel of this checkout; returns its interpreter."""
    wheels = folder / "wheels"
    if not any(wheels.glob("*.whl")):
        _pip([sys.executable], "wheel", "--no-deps", "--wheel-dir", str(wheels), str(CHECKOUT))
    subprocess.run([python, "-m", "venv", str(place)], check=True, capture_output=True, text=True)
    interpreter = place / "bin" / "python"
    pinned = {re.split("[=<>]", pin)[0] for pin in pins}
    oldest = [f"{name}=={version}" for name, version in oldest_versions().items() if name not in pinned]
    _pip([str(interpreter)], "install", *oldest, *pins, *map(str, wheels.glob("*.whl")))
    return interpreter


def oldest_versions() -> dict[str, str]:
    """The lower bounds of the dependencies in pyproject.toml."""
    text = (CHECKOUT / "pyproject.toml").read_text("utf-8")
    listed = text[text.index("\ndependencies = [") : text.index("[project.optional-dependencies]")]
    return dict(re.findall(r'"([\w-]+)>=([\d.]+)"', listed))


def _probe(command: Sequence[str], folder: Path, out: Path, environment: dict[str, str]) -> dict[str, np.ndarray]:
    words = [*command, str(Path(__file__).with_name("probe.py")), str(folder), str(out)]
    subprocess.run(words, check=True, capture_output=True, text=True, cwd=folder, env={**os.environ, **environment})
    with np.load(out) as file:
        return dict(file)


def _pip(command: Sequence[str], *words: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-compile")
    name, *rest = words
    extra = quiet if name == "install" else quiet[:2]
    subprocess.run([*command, "-m", "pip", name, *extra, *rest], check=True, capture_output=True, text=True)


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


if __name__ == "__main__":
    sys.exit(main())
