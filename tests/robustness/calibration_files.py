"""Attempts on what a compilation reads beside the model: images, statistics and plans, damaged or of another kind."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.driver import compile_model
from qcompiler.errors import QcompilerError

from ..driver.runs import fast
from ..driver.tiny import images, save
from . import model_files
from .outcomes import RefusalError, WrongError, one_line

Rng = np.random.Generator


def attempt(rng: Rng) -> str:
    """One file that is not what it was."""
    kind = str(rng.choice(["images", "images", "statistics", "plan"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = save(folder, count=4)
        data, options = path.with_name("tiny.calib.npz"), {"bits": "w8a8"}
        if kind == "images":
            data.write_bytes(_images(rng, data.read_bytes()))
        else:
            good = dict(zip(("statistics", "plan"), _saved(), strict=True))[kind]
            file = folder / "given"
            file.write_bytes(_plan(rng, good) if kind == "plan" else _archive(rng, good))
            options = {"bits": "w8a8", "stats": file} if kind == "statistics" else {"bits_file": file}
        output = folder / "out.onnx"
        try:
            compile_model(path, fast(effort="low", allow_collapse=True, **options), data, output=output)
        except QcompilerError as error:
            if output.exists():
                raise WrongError("an error, and yet a file") from error
            raise RefusalError(f"{type(error).__name__}: {one_line(error)}") from error
    return kind


@functools.cache
def _saved() -> tuple[bytes, bytes]:
    """Statistics and a plan as qcompile writes them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = folder / "statistics.npz", folder / "plan.json"
        options = fast(effort="low", bits="w8a8", save_stats=files[0], save_plan=files[1])
        compile_model(save(folder, count=4), options, output=folder / "out.onnx")
        return files[0].read_bytes(), files[1].read_bytes()


def _images(rng: Rng, content: bytes) -> bytes:
    if rng.random() < 0.4:
        return model_files.damaged(rng, content)
    value: Any = images(4)
    pick = rng.integers(9)
    if pick == 0:
        value.reshape(-1)[rng.integers(value.size)] = rng.choice(np.array([np.nan, np.inf, -np.inf, 3e38]))
    elif pick == 1:
        value = value.astype(rng.choice(["float64", "int8", "uint8", "complex64", "bool", "float16", "U4"]))
    elif pick == 2:
        value = value[..., : int(rng.integers(0, 8))]
    elif pick == 3:
        value = value.reshape(int(rng.choice(np.array([1, 2, 16]))), -1)
    elif pick == 4:
        value = np.array([None, value[0]], object)
    elif pick == 5:
        value = value[:0]
    elif pick == 6:
        value = np.float32(1.0)
    elif pick == 7:
        value = np.zeros_like(value) if rng.random() < 0.5 else value * np.float32(10) ** rng.integers(-44, 38)
    buffer = io.BytesIO()
    np.savez(buffer, **{str(rng.choice(["x", "x", "x", "x", "y", ""])): value})
    return buffer.getvalue()


def _archive(rng: Rng, content: bytes) -> bytes:
    """Statistics with one array less, of another shape or type, or with other values in it."""
    if rng.random() < 0.4:
        return model_files.damaged(rng, content)
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    for _ in range(rng.integers(1, 3)):
        name = str(rng.choice(list(arrays)))
        value = arrays[name]
        pick = rng.integers(6)
        if pick == 0:
            del arrays[name]
            continue
        if pick == 1:
            value = value.reshape(-1)[:-1]
        elif pick == 2:
            value = value[None]
        elif pick == 3 and value.dtype.kind == "f" and value.size:
            value = value.copy()
            value.reshape(-1)[rng.integers(value.size)] = rng.choice(np.array([np.nan, np.inf, -1.0, 1e300]))
        elif pick == 4 and value.dtype.kind in "iu" and value.size:
            value = value.copy()
            value.reshape(-1)[rng.integers(value.size)] = rng.choice(np.array([0, 1, 100]))
        else:
            value = value.astype("U20")
        arrays[name] = value
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _plan(rng: Rng, content: bytes) -> bytes:
    """Damaged text, or JSON with one value replaced, removed or added."""
    if rng.random() < 0.3:
        return model_files.damaged(rng, content)
    plan = json.loads(content)
    for _ in range(rng.integers(1, 3)):
        place: Any = plan
        while True:  # down to a random depth
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = keys[rng.integers(len(keys))]
            if isinstance(place[key], (dict, list)) and rng.random() < 0.85:
                place = place[key]
                continue
            pick = rng.integers(4)
            if pick == 0:
                del place[key]
            else:
                values = [None, -1, 0, 1, 3, 9, 64, 10**30, 0.5, float("nan"), "", "blocks", "w4", [], {}, [1], True]
                place[key] = values[rng.integers(len(values))]
            break
    return json.dumps(plan).encode()
