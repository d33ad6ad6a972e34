"""Speed of single linear operators on one thread, against ONNX Runtime's integer product and a measured peak.

    python tests/bench/kernels.py [--model deit_tiny ...] [--rounds 9] [--json]

Every row of a shape is timed in the same interleaved rounds. The operators quantize their float input, multiply, and
write float; MatMulInteger alone gets integers and writes integers. TOPS counts a multiplication and an addition as two.
The peak is that of the instruction that the active CPU path multiplies with, where a C++ compiler is there to build
peak.cc; the row of oneDNN needs a torch that was built with it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import RenderableType

from qcompiler import runtime_ops
from qcompiler.cli.terminal import Terminal, console
from qcompiler.evaluation.latency import measure_latency
from qcompiler.latency.float_layers import float_layer
from qcompiler.latency.kinds import LinearKind
from qcompiler.latency.lowered_layers import lowered_layer
from qcompiler.latency.shapes import LinearShape
from qcompiler.report.tables import table

TOKENS = 197
WIDTHS = {"deit_tiny": 192, "deit_small": 384, "vit_base": 768}
PEER = "ORT MatMulInteger"
Timed = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One operator on one shape: time in microseconds, and speed in 10^12 operations per second."""

    shape: str
    operator: str
    us: float
    tops: float
    peak_share: float | None
    over_float: float
    over_peer: float


def shapes(channels: int) -> dict[str, LinearShape]:
    """The four linear layers of a block."""
    sizes = {"qkv": (channels, 3 * channels), "proj": (channels, channels)}
    sizes |= {"fc1": (channels, 4 * channels), "fc2": (4 * channels, channels)}
    return {name: LinearShape(1, TOKENS, *size) for name, size in sizes.items()}


def operators(shape: LinearShape) -> dict[str, LinearKind]:
    """Operators of qcompile by a short name."""

    def kind(scheme: str, bits: int, groups: int, weight_bits: int, weight_blocks: bool = False) -> LinearKind:
        blocks = scheme == "blocks"
        return LinearKind(shape, scheme, bits, groups, blocks, False, not blocks, weight_bits, weight_blocks)

    return {
        "blocks a4 w4": kind("blocks", 4, 1, 4),
        "blocks a4 w4 in blocks": kind("blocks", 4, 1, 4, True),
        "blocks a6 w8": kind("blocks", 6, 1, 8),
        "row groups a8 w8": kind("rows", 8, 8, 8),
        "row groups a4 w4": kind("rows", 4, 8, 4),
        "channel groups a4 w4": kind("channels", 4, 8, 4),
        "sorted segments a4 w4": kind("segments", 4, 8, 4),
    }


def peers(shape: LinearShape) -> dict[str, Timed]:
    """The same layer as others run it."""
    found = {PEER: _timed(_integer_product(shape)), "ORT dynamic int8": _timed(_dynamic_int8(shape))}
    one_dnn = _one_dnn(shape)
    return found if one_dnn is None else {**found, "oneDNN dynamic int8 (torch)": one_dnn}


def measure(name: str, shape: LinearShape, rounds: int, peak: float | None) -> list[Row]:
    """All rows of one shape, timed in turn; ``peak`` in GOPS."""
    runs = {"float32": _timed(float_layer(shape)), **peers(shape)}
    runs |= {label: _timed(lowered_layer(kind)) for label, kind in operators(shape).items()}
    results = measure_latency(
        {label: _ignoring_feed(run) for label, run in runs.items()},
        {"": np.zeros(1)},
        "float32",
        rounds=rounds,
        round_seconds=0.05,
        clock=time.thread_time,
    )
    times = {result.model: 1e3 * result.ms for result in results}
    ratios = {result.model: result.ratio for result in results}
    return rows(f"{name} {shape.channels} -> {shape.outputs}", shape.macs, times, ratios, peak)


def rows(shape: str, macs: int, times: dict[str, float], ratios: dict[str, float], peak: float | None) -> list[Row]:
    """Rows from times in microseconds and speeds over float32; ``peak`` in GOPS."""
    found = []
    for label, us in times.items():
        tops = 2e-6 * macs / us
        share = None if peak is None or label == "float32" else 1e3 * tops / peak
        found.append(Row(shape, label, us, tops, share, ratios[label], ratios[label] / ratios[PEER]))
    return found


def show(found: Sequence[Row], path: str, peak: float | None) -> RenderableType:
    """The rows as a table."""
    cells = [
        (
            row.shape,
            row.operator,
            f"{row.us:.0f}",
            f"{row.tops:.3f}",
            None if row.peak_share is None else f"{100 * row.peak_share:.0f}",
            f"{row.over_float:.2f}",
            f"{row.over_peer:.2f}",
        )
        for row in found
    ]
    measured = "no peak measured" if peak is None else f"peak {peak / 1e3:.2f} TOPS"
    title = f"One thread, {TOKENS} tokens, CPU path {path}, {measured}"
    numbers = ("us", "TOPS", "% of peak", "times float32", f"times {PEER}")
    return table(title, ("shape", "operator"), numbers, cells, optional=("% of peak",))


def measured_peak(path: str) -> float | None:
    """GOPS of the path's own instruction; None without a compiler, or for a path without one."""
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        program = built_peak(compiler, Path(folder))
        done = subprocess.run([program, path], capture_output=True, text=True)
    return float(done.stdout) if done.returncode == 0 else None


def built_peak(compiler: str, folder: Path) -> Path:
    """The program of peak.cc, built in ``folder``."""
    program, source = folder / "peak", Path(__file__).with_name("peak.cc")
    subprocess.run([compiler, "-std=c++17", "-O2", "-o", program, source], check=True)
    return program


def _timed(layer: tuple[bytes, dict[str, np.ndarray]]) -> Timed:
    model, feed = layer
    session = runtime_ops.session(model, threads=1)
    return lambda: session.run(None, feed)


def _ignoring_feed(run: Timed) -> Callable[[object], object]:
    return lambda _: run()


def _integer_product(shape: LinearShape) -> tuple[bytes, dict[str, np.ndarray]]:
    """u8 times s8, the only pair of types that ONNX Runtime multiplies fast."""
    draw = np.random.default_rng(0)
    weight = draw.integers(-127, 128, (shape.channels, shape.outputs)).astype(np.int8)
    x = draw.integers(0, 256, (shape.tokens, shape.channels)).astype(np.uint8)
    node = helper.make_node("MatMulInteger", ["X", "W", "x_zero"], ["Y"])
    constants = [numpy_helper.from_array(weight, "W"), numpy_helper.from_array(np.array(128, np.uint8), "x_zero")]
    return _model([node], {"X": x}, TensorProto.UINT8, TensorProto.INT32, constants), {"X": x}


def _dynamic_int8(shape: LinearShape) -> tuple[bytes, dict[str, np.ndarray]]:
    """What ``quantize_dynamic`` writes; ONNX Runtime fuses it to its own operator."""
    draw = np.random.default_rng(0)
    weight = draw.integers(-127, 128, (shape.channels, shape.outputs)).astype(np.int8)
    x = draw.standard_normal((shape.tokens, shape.channels)).astype(np.float32)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["X"], ["codes", "x_scale", "x_zero"]),
        helper.make_node("MatMulInteger", ["codes", "W", "x_zero", "w_zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["float_sums"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x_scale", "w_scale"], ["scale"]),
        helper.make_node("Mul", ["float_sums", "scale"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["Y"]),
    ]
    arrays = {
        "W": weight,
        "w_zero": np.zeros(shape.outputs, np.int8),
        "w_scale": np.full(shape.outputs, 0.01, np.float32),
        "bias": np.zeros(shape.outputs, np.float32),
    }
    constants = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    return _model(nodes, {"X": x}, TensorProto.FLOAT, TensorProto.FLOAT, constants), {"X": x}


def _model(
    nodes: list[onnx.NodeProto], feed: dict[str, np.ndarray], read: int, written: int, constants: list[onnx.TensorProto]
) -> bytes:
    inputs = [helper.make_tensor_value_info(name, read, x.shape) for name, x in feed.items()]
    output = helper.make_empty_tensor_value_info("Y")
    output.type.tensor_type.elem_type = written
    graph = helper.make_graph(nodes, "peer", inputs, [output], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def _one_dnn(shape: LinearShape) -> Timed | None:
    """torch's dynamically quantized layer on oneDNN; None where torch or oneDNN is missing."""
    try:
        import torch
        from torch.ao.quantization import quantize_dynamic  # later releases of torch no longer have it
    except ImportError:
        return None
    if "onednn" not in torch.backends.quantized.supported_engines:
        return None
    torch.set_num_threads(1)
    torch.backends.quantized.engine = "onednn"
    layer = torch.nn.Sequential(torch.nn.Linear(shape.channels, shape.outputs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = quantize_dynamic(layer, {torch.nn.Linear}, dtype=torch.qint8)
    x = torch.randn(shape.tokens, shape.channels)

    def run() -> object:
        with torch.inference_mode():
            return quantized(x)

    return run


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=WIDTHS, action="append", help="whose layers (default: all)")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(words)
    path = next((item.name for item in runtime_ops.cpu_paths() if item.active), "reference")
    peak = measured_peak(path)
    found = []
    for model in dict.fromkeys(arguments.model or WIDTHS):
        for name, shape in shapes(WIDTHS[model]).items():
            found += measure(f"{model} {name}", shape, arguments.rounds, peak)
    if arguments.json:
        print(json.dumps({"path": path, "peak_gops": peak, "rows": [asdict(row) for row in found]}))
    else:
        Terminal(console(sys.stdout), console(sys.stderr)).show(show(found, path, peak))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
