"""Speed of whole models over their float original, in interleaved rounds.

    python tests/bench/models.py FLOAT.onnx COMPILED.onnx ... [--peers] [--run 1:1 --run 8:2]
    python tests/bench/models.py --timm deit_tiny_patch16_224 ... [--peers]

The first form times finished models. The second one exports timm models with random weights, compiles them with
synthetic images, and times both: speed does not depend on the values. `--peers` adds ONNX Runtime's dynamic int8 of the
float model. `--run BATCH:THREADS` may be given several times.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType

from qcompiler.cli.terminal import Terminal, console
from qcompiler.driver import compile_model
from qcompiler.driver.comparison import LatencyComparison, compare_latency
from qcompiler.driver.exporting import export_model
from qcompiler.errors import QcompilerError
from qcompiler.options import CompileOptions
from qcompiler.report.tables import table

RUNS = ((1, 1), (8, 2))
IMAGES = 8  # of calibration, where values do not matter


@dataclass(frozen=True)
class Setting:
    """One way to run models: images per run and threads."""

    batch: int
    threads: int

    def __str__(self) -> str:
        return f"batch {self.batch}, {self.threads} thread{'s' if self.threads > 1 else ''}"


def setting(text: str) -> Setting:
    """``8:2`` as a setting."""
    batch, _, threads = text.partition(":")
    if not batch.isdecimal() or not threads.isdecimal() or not int(batch) or not int(threads):
        raise argparse.ArgumentTypeError(f"'{text}' is not BATCH:THREADS, two positive numbers")
    return Setting(int(batch), int(threads))


def show(measured: dict[Setting, list[LatencyComparison]]) -> RenderableType:
    """One row per model; milliseconds and speed over its float model for every setting."""
    cells: dict[tuple[Path, str], list[str]] = {}
    for comparisons in measured.values():
        for comparison in comparisons:
            for path, result in zip(comparison.paths, comparison.results, strict=True):
                quartiles = f"{result.ratio:.2f} ({result.ratio_low:.2f} .. {result.ratio_high:.2f})"
                found = f"{result.ms:.1f} ms" if result is comparison.results[0] else f"{result.ms:.1f} ms, {quartiles}"
                cells.setdefault((path, result.model), []).append(found)
    first = next(iter(measured.values()))[0]
    title = f"Whole models: time, and speed over float32 with quartiles; {first.operators}"
    rows = [(label, *found) for (_, label), found in cells.items()]
    return table(title, ("model",), tuple(map(str, measured)), rows)


def dynamic_int8(model: Path, folder: Path) -> Path:
    """The model as ``onnxruntime.quantization.quantize_dynamic`` makes it, in ``folder``."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it asks for a preprocessing that changes nothing here
    output = folder / f"{model.stem}.ort-dynamic.onnx"
    kinds = ["MatMul", "Gemm"]
    quantize_dynamic(model, output, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=kinds)
    return output


def exported(names: Iterable[str], folder: Path, options: CompileOptions) -> list[list[Path]]:
    """A float and a compiled model of each timm name."""
    found = []
    for name in names:
        path = folder / f"{name}.onnx"
        export_model(f"timm:{name}", path, None, "legacy", "symbolic")
        compiled = path.with_suffix(f".{options.method}.onnx")
        compile_model(path, options, output=compiled)
        found.append([path, compiled])
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL", help="a float model and those made from it")
    parser.add_argument("--timm", nargs="+", default=[], metavar="NAME", help="export and compile these")
    parser.add_argument("--method", default="igq", help="how to compile them (default: %(default)s)")
    parser.add_argument("--bits", default="w4a4", help="widths of --timm models (default: %(default)s)")
    parser.add_argument("--peers", action="store_true", help="also ONNX Runtime's dynamic int8 of every float model")
    parser.add_argument("--run", type=setting, action="append", help="BATCH:THREADS (default: 1:1 and 8:2)")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(words)
    if not arguments.models and not arguments.timm:
        parser.error("give models, or names of timm models with --timm")
    settings = dict.fromkeys(arguments.run or [Setting(*run) for run in RUNS])
    options = CompileOptions(
        method=arguments.method, bits=arguments.bits, effort="low", images=IMAGES, probe_images=2, trial_images=2
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            series = [arguments.models] if arguments.models else []
            series += exported(arguments.timm, folder, options)
            if arguments.peers:
                series = [[*paths, dynamic_int8(paths[0], folder)] for paths in series]
            measured = {
                item: [
                    compare_latency(paths, batch=item.batch, threads=item.threads, rounds=arguments.rounds)
                    for paths in series
                ]
                for item in settings
            }
        except QcompilerError as error:
            parser.error(str(error))
    if arguments.json:
        values = {str(item): [comparison.to_dict() for comparison in found] for item, found in measured.items()}
        print(json.dumps(values))
    else:
        Terminal(console(sys.stdout), console(sys.stderr)).show(show(measured))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
