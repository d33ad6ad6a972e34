"""Properties of compilations of random transformers at random options.

The default is a few examples; `HYPOTHESIS_PROFILE=nightly` (or the variable `QCOMPILER_EXAMPLES`) asks for more.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, Phase, event, given, note, settings
from hypothesis import strategies as st

from qcompiler import runtime_ops
from qcompiler.driver import compile_model
from qcompiler.options import CompileOptions
from qcompiler.report.recount import recount

from ..driver.runs import fast, relative
from .transformers import Transformer, build, transformers

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
EXAMPLES = int(os.environ.get("QCOMPILER_EXAMPLES", 500 if NIGHTLY else 12))

# Outputs of random weights are sums of many independent errors: a few parts in a hundred at 8 bits.
W8A8_ERROR = 0.05
# With and without the library the codes are the same but for values next to a boundary, which float operations in
# front of a quantizer may round to either side; a step of 8 bits moves an output by less than this, one of 4 bits by
# more.
SAME = {"w8a8": 5e-3, "w4a8": 2e-2}
NEAR = 0.1


class Reader:
    """Calibration data in batches that the model takes."""

    def __init__(self, shape: Transformer) -> None:
        size = shape.batch or 1
        images = shape.images(6)
        self.batches = [images[begin : begin + size] for begin in range(0, len(images), size)]
        self.rewind()

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.left, None)
        return None if batch is None else {"x": batch}

    def rewind(self) -> None:
        self.left = iter(self.batches)


@st.composite
def options(draw: st.DrawFn) -> CompileOptions:
    """Widths or a budget, a method, and where to stop."""
    chosen: dict[str, Any] = {
        "method": draw(st.sampled_from(["auto", "auto", "igq", "mixq"])),
        "stop_after": draw(st.sampled_from(["lower", "lower", "quantize"])),
        "groups": draw(st.sampled_from(["integer", "exact"])),
        "strict_bits": draw(st.booleans()),
    }
    widths = draw(st.sampled_from(["w8a8", "w8a8", "w4a8", "w4a4", "w6a6", None]))
    if widths is None:
        chosen["bop_budget"] = draw(st.sampled_from([0.25, 0.4, 0.5625]))
    else:
        chosen["bits"] = widths
    if chosen["method"] != "auto":
        chosen["strict_bits"] = False
    return fast(effort="low", allow_collapse=True, executor="inline", **chosen)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not NIGHTLY,
    # Every step of a reduction is a compilation.
    phases=tuple(Phase) if NIGHTLY else (Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(transformers(), options())
def test_compiled_transformer(shape: Transformer, chosen: CompileOptions) -> None:
    model = build(shape)
    note(f"{len(model.graph.node)} nodes")
    with tempfile.TemporaryDirectory() as name:
        path, output = Path(name, "model.onnx"), Path(name, "out.onnx")
        onnx.save(model, path)
        before = path.read_bytes()
        result = compile_model(path, chosen, Reader(shape), output=output)
        assert path.read_bytes() == before
        assert sorted(item.name for item in Path(name).iterdir()) == ["model.onnx", "out.onnx"]
        written = onnx.load(output)
    onnx.checker.check_model(written, full_check=True)

    assert result.report.layers, "a transformer of linear layers and attention, and none of them quantized"
    coverage = result.report.coverage
    assert coverage is not None and coverage.quantized > 0.5 * coverage.macs, coverage
    counted = recount(written)
    if chosen.bop_budget is not None:
        assert counted.fraction_of_w8a8 <= chosen.bop_budget * (1 + 1e-9)
    assert counted.overhead <= chosen.overhead_budget
    assert counted.fraction_of_w8a8 == pytest.approx(result.report.bops.fraction_of_w8a8)

    feed = {"x": shape.images(shape.batch or 3)}
    expected = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, feed
    )
    bodies = plain_all(written, feed)
    assert [value.shape for value in bodies] == [value.shape for value in expected]
    assert all(np.isfinite(value).all() for value in bodies)
    if chosen.bits == "w8a8":
        for value, wanted in zip(bodies, expected, strict=True):
            event(f"W8A8 error below {np.ceil(100 * relative(value, wanted)):.0f} %")
            assert relative(value, wanted) <= W8A8_ERROR
    if library_is_there():
        kernels = runtime_ops.session(written.SerializeToString(), threads=1, library=True).run(None, feed)
        for value, wanted in zip(kernels, bodies, strict=True):
            assert relative(value, wanted) <= SAME.get(chosen.bits or "", NEAR)


def plain_all(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    found: list[np.ndarray] = runtime_ops.session(model.SerializeToString(), threads=1, library=False).run(None, feed)
    return found


def library_is_there() -> bool:
    try:
        runtime_ops.library_path()
    except runtime_ops.LibraryNotFoundError:
        return False
    return True
