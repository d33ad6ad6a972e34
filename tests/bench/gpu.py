"""Speed on one GPU: layers, encoders and whole models against float16 and against the plain int8 product.

    python tests/bench/gpu.py                                    layers and encoders; needs torch and the CUDA library
    python tests/bench/gpu.py --timm vit_base_patch16_224 ...    whole models too, exported and compiled on the spot,
                                                                  beside torch.compile; needs timm and onnxruntime-gpu
    python tests/bench/gpu.py --model FLOAT.onnx COMPILED.onnx   whole models that are there already

Everything that is compared is timed in interleaved rounds; a row shows medians. Layers are timed with all that belongs
to them (LayerNormalization, blocks, quantization, bias, GELU), the plain product without anything.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from tests.cuda.library import ERF, Attention, Interface, Linear, load  # noqa: E402

ROUNDS = 15
BATCHES = (1, 8, 64)
TOKENS = 197
Work = Callable[[], object]


@dataclass(frozen=True)
class Encoder:
    """A stack of transformer blocks.

    Attributes:
        name: Of the model that has it.
        dim: Channels.
        heads: Their number.
        depth: Number of blocks.
    """

    name: str
    dim: int
    heads: int
    depth: int = 12


ENCODERS = (Encoder("DeiT-S", 384, 6), Encoder("ViT-B", 768, 12))
LAYERS = ((768, 2304), (768, 768), (768, 3072), (3072, 768), (384, 1536))
ACTIVATIONS = (torch.float32, torch.float16)  # of the operators' tensors


def captured(work: Work) -> Work:
    """The same work as a CUDA graph: what is timed is the device."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        work()
    return graph.replay


def milliseconds(work: Work, repeats: int) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / repeats


def interleaved(works: dict[str, Work]) -> dict[str, float]:
    """Median milliseconds of each, one round of all after another."""
    repeats = {}
    for name, work in works.items():
        milliseconds(work, 2)
        repeats[name] = max(1, min(200, int(20 / max(milliseconds(work, 2), 1e-3))))
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            times[name].append(milliseconds(work, repeats[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def show(title: str, times: dict[str, float], operations: float | None = None) -> None:
    print(f"\n{title}")
    for name, ms in times.items():
        rate = "" if operations is None else f"  {operations / ms / 1e9:8.1f} TOPS"
        print(f"  {name:44} {ms * 1e3:10.1f} us{rate}")


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def stream() -> int:
    return int(torch.cuda.current_stream().cuda_stream)


def int8_pair(rows: int, channels: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    left = torch.randint(-127, 128, (rows, channels), dtype=torch.int8, device="cuda")
    right = torch.randint(-127, 128, (outputs, channels), dtype=torch.int8, device="cuda").t()
    return left, right


def bench_ceilings() -> None:
    size = 8192
    a8, b8 = int8_pair(size, size, size)
    a16, b16 = (torch.randn(size, size, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    works = {"int8 (cuBLASLt)": lambda: torch._int_mm(a8, b8), "bfloat16": lambda: a16 @ b16}
    show(f"Ceilings, {size} x {size} x {size}", interleaved(works), 2.0 * size**3)


def bench_layer(library: Interface, batch: int, channels: int, outputs: int) -> None:
    rows = batch * TOKENS
    x = torch.randn(batch, TOKENS, channels, device="cuda")
    works: dict[str, Work] = {}
    layers = {
        f"LayerNorm, {name}, GELU": Linear(library, channels, outputs, layer_norm=True, gelu=ERF, rotate=rotate)
        for name, rotate in (("blocks", 1), ("blocks, rotated", 32))
    }
    layers["blocks alone"] = Linear(library, channels, outputs)
    for dtype in ACTIVATIONS:
        given = x.to(dtype)
        y = torch.empty(batch, TOKENS, outputs, device="cuda", dtype=dtype)
        for name, layer in layers.items():
            works[f"{name}, {short(dtype)}"] = captured(lambda layer=layer, given=given, y=y: layer(given, y, stream()))
    padded = max(32, rows)  # _int_mm refuses few rows
    a8, b8 = int8_pair(padded, channels, outputs)
    works["int8 product alone (cuBLASLt)"] = captured(lambda: torch._int_mm(a8, b8))
    for dtype in (torch.float16, torch.bfloat16):
        linear = nn.Linear(channels, outputs, device="cuda", dtype=dtype)
        half = x.to(dtype)
        works[f"{short(dtype)} product alone"] = captured(lambda linear=linear, half=half: linear(half))
    with torch.inference_mode():
        title = f"Layer {channels} -> {outputs}, {batch} x {TOKENS} tokens"
        show(title, interleaved(works), 2.0 * rows * channels * outputs)


class HalfBlock(nn.Module):
    """The block in float16, with torch's fused attention."""

    def __init__(self, shape: Encoder) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm1, self.norm2 = (nn.LayerNorm(shape.dim, eps=1e-6) for _ in range(2))
        self.qkv, self.proj = nn.Linear(shape.dim, 3 * shape.dim), nn.Linear(shape.dim, shape.dim)
        self.fc1, self.fc2 = nn.Linear(shape.dim, 4 * shape.dim), nn.Linear(4 * shape.dim, shape.dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, dim)
        x = x + self.proj(mixed)
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


def encoder_work(library: Interface, shape: Encoder, batch: int, dtype: torch.dtype) -> Work:
    """The encoder on the operators, with tensors of one type and every buffer made before."""
    dim = shape.dim
    blocks = [
        (
            Linear(library, dim, 3 * dim, layer_norm=True),
            Attention(library, shape.heads, dim // shape.heads),
            Linear(library, dim, dim),
            Linear(library, dim, 4 * dim, layer_norm=True, gelu=ERF),
            Linear(library, 4 * dim, dim),
        )
        for _ in range(shape.depth)
    ]
    x, mixed = (torch.randn(batch, TOKENS, dim, device="cuda").to(dtype) for _ in range(2))
    qkv = torch.empty(batch, TOKENS, 3 * dim, device="cuda", dtype=dtype)
    hidden = torch.empty(batch, TOKENS, 4 * dim, device="cuda", dtype=dtype)

    def work() -> None:
        on = stream()
        for to_qkv, attention, proj, fc1, fc2 in blocks:
            to_qkv(x, qkv, on)
            attention(qkv, mixed, on)
            proj(mixed, x, on, residual=x)
            fc1(x, hidden, on)
            fc2(hidden, x, on, residual=x)

    return captured(work)


def bench_encoder(library: Interface, shape: Encoder, batch: int) -> None:
    half = nn.Sequential(*(HalfBlock(shape) for _ in range(shape.depth))).cuda().half().eval()
    x = torch.randn(batch, TOKENS, shape.dim, device="cuda", dtype=torch.float16)
    compiled = torch.compile(half)
    with torch.inference_mode():
        compiled(x)
        works = {
            **{
                f"operators, W4A4 in blocks, {short(dtype)}": encoder_work(library, shape, batch, dtype)
                for dtype in ACTIVATIONS
            },
            "torch.compile float16": captured(lambda: compiled(x)),
            "torch float16": captured(lambda: half(x)),
        }
        show(f"Encoder of {shape.name}, batch {batch}", interleaved(works))


def bound_session(model: Path, batch: int, library: Path | None) -> Work:
    """A session on the CUDA provider with inputs and outputs on the device."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if library is not None:
        options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(model, options, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    (image,) = session.get_inputs()
    shape = [batch if not isinstance(size, int) or axis == 0 else size for axis, size in enumerate(image.shape)]
    dtype = np.float16 if "float16" in image.type else np.float32
    binding = session.io_binding()
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    binding.bind_ortvalue_input(image.name, onnxruntime.OrtValue.ortvalue_from_numpy(values, "cuda", 0))
    binding.bind_output(session.get_outputs()[0].name, "cuda")
    return lambda: session.run_with_iobinding(binding)


def half_model(model: Path, folder: Path) -> Path:
    """The model in float16, as ONNX Runtime's own tool converts it."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    target = folder / f"{model.stem}.float16.onnx"
    onnx.save(convert_float_to_float16(onnx.load(model)), target)
    return target


def wall_milliseconds(work: Work) -> float:
    import time

    torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - begin)


def made(name: str, folder: Path) -> tuple[Path, dict[str, Path]]:
    """A timm model with random weights as a float file, and one plan compiled from it for both types of activations."""
    from qcompiler import CompileOptions, compile_model
    from qcompiler.driver.exporting import export_model

    path, plan = folder / f"{name}.onnx", folder / f"{name}.plan.json"
    export_model(f"timm:{name}", path, None, "legacy", "symbolic")
    searched = CompileOptions(effort="low", save_plan=plan, allow_collapse=True)
    compiled = {}
    for kind in ("float32", "float16"):
        options = (
            searched if kind == "float32" else CompileOptions(bits_file=plan, activations=kind, allow_collapse=True)
        )
        target = compiled[f"compiled, {kind} activations"] = folder / f"{name}.compiled.{kind}.onnx"
        compile_model(path, options, output=target)
    return path, compiled


def session_works(float_model: Path, compiled: dict[str, Path], batch: int, folder: Path) -> dict[str, Work]:
    """Runs of compiled models and of ONNX Runtime's own."""
    from qcompiler import runtime_ops

    library = runtime_ops.library_path()
    return {
        **{label: bound_session(path, batch, library) for label, path in compiled.items()},
        "ONNX Runtime CUDA float16": bound_session(half_model(float_model, folder), batch, None),
        "ONNX Runtime CUDA float32": bound_session(float_model, batch, None),
    }


def torch_works(name: str, batch: int) -> dict[str, Work]:
    """Runs of a timm model in float16, compiled and not, as CUDA graphs."""
    import timm

    model = timm.create_model(name).cuda().half().eval()
    images = torch.randn(batch, *model.default_cfg["input_size"], device="cuda", dtype=torch.float16)
    compiled = torch.compile(model)
    with torch.inference_mode():
        compiled(images)
        return {
            "torch.compile float16": captured(lambda: compiled(images)),
            "torch float16": captured(lambda: model(images)),
        }


def bench_whole(title: str, works: dict[str, Work]) -> None:
    """Wall times of whole models, interleaved."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(ROUNDS + 3):
        for name, work in works.items():
            ms = wall_milliseconds(work)
            if turn >= 3:
                times[name].append(ms)
    show(title, {name: statistics.median(ms) for name, ms in times.items()})


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, default=CHECKOUT / "runtime_ops" / "libqcompiler_ops_cuda.so")
    parser.add_argument("--batch", type=int, action="append", help="images per run; may be given several times")
    parser.add_argument("--model", type=Path, nargs=2, action="append", default=[], metavar=("FLOAT", "COMPILED"))
    parser.add_argument("--timm", nargs="*", default=[], metavar="NAME")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if not torch.cuda.is_available():
        print("there is no CUDA device", file=sys.stderr)
        return 1
    batches = options.batch or BATCHES
    library = load(options.library)
    print(torch.cuda.get_device_name(), "driver and torch CUDA", torch.version.cuda)
    bench_ceilings()
    for channels, outputs in LAYERS:
        for batch in batches:
            bench_layer(library, batch, channels, outputs)
    for shape in ENCODERS:
        for batch in batches:
            bench_encoder(library, shape, batch)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for float_model, compiled_model in options.model:
            for batch in batches:
                works = session_works(float_model, {"compiled": compiled_model}, batch, folder)
                bench_whole(f"{compiled_model.name}, batch {batch}", works)
        for name in options.timm:
            float_model, compiled = made(name, folder)
            for batch in batches:
                works = {**session_works(float_model, compiled, batch, folder), **torch_works(name, batch)}
                bench_whole(f"{name}, batch {batch}", works)
    return 0


if __name__ == "__main__":
    sys.exit(main())
