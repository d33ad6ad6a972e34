"""One compilation from start to end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from qcompiler import __version__, runtime_ops
from qcompiler.allocation.widths import choose_uniform, fraction_of_w8a8, parse_widths
from qcompiler.calibration.collector import collect
from qcompiler.calibration.feeds import CalibrationReader
from qcompiler.calibration.inputs import Feed
from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.calibration.readers import CalibrationSource, open_calibration
from qcompiler.calibration.statistics import Statistics, model_hash
from qcompiler.driver.annotate import annotate, finish
from qcompiler.driver.canonical import Canonical, canonicalise, check_equal, float_session, model_inputs
from qcompiler.driver.layers import bit_operations, layer_reports
from qcompiler.driver.planning import Planned, Planner, free_products
from qcompiler.driver.sites import operands, requests
from qcompiler.errors import (
    BudgetError,
    CalibrationDataError,
    OptionError,
    OutputPathError,
    RuntimeLibraryError,
    VerificationError,
)
from qcompiler.evaluation.agreement import Agreement, measure_agreement
from qcompiler.evaluation.runs import first_output
from qcompiler.ir.loading import load_model
from qcompiler.ir.passes import Pass, PassReport, run_passes
from qcompiler.ir.saving import save_model
from qcompiler.ir.verifier import verify
from qcompiler.options import DEFAULT_BOP_BUDGET, CompileOptions
from qcompiler.passes import LOWER, QUANTIZE
from qcompiler.passes.quantize_attention import QuantizeAttention
from qcompiler.passes.quantize_linears import QuantizeLinears
from qcompiler.progress import Progress, Silent
from qcompiler.quant.plan import QuantPlan, Widths
from qcompiler.quant.sites import all_sites
from qcompiler.report.values import CompileReport


@dataclass(frozen=True)
class CompileResult:
    """A compiled model and what was done to it.

    Attributes:
        model: The model, with function bodies and annotations.
        report: What it cost.
    """

    model: onnx.ModelProto
    report: CompileReport

    def save(self, path: str | Path) -> list[Path]:
        """Write the model atomically; returns the files written.

        Raises:
            OutputPathError: The path cannot be written.
        """
        return save_model(self.model, path)


def compile_model(
    model: str | Path | onnx.ModelProto,
    options: CompileOptions | None = None,
    calibration: str | Path | CalibrationReader | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> CompileResult:
    """Compile a float vision transformer to low-bit integers.

    Args:
        model: Path of an ONNX file, or a model in memory; never changed.
        options: What to do; the defaults are those of the command line.
        calibration: Folder of images, ``.npz``, ``module:callable`` or an onnxruntime ``CalibrationDataReader``. None:
            the file ``<stem>.calib.npz`` beside the model, else synthetic images (with a warning in the report).
        preprocessing: How image files become values.
        output: Where to write the model; it is loaded again from there and run.
        progress: Told about the stages.

    Returns:
        The model and the report.

    Raises:
        QcompilerError: One of its subclasses for everything a user can fix; nothing is written then.
    """
    compilation = _Compilation(options or CompileOptions(), progress or Silent())
    return compilation.run(model, calibration, preprocessing, None if output is None else Path(output))


class _Compilation:
    """The state of one run: options, the clock, and the warnings so far."""

    def __init__(self, options: CompileOptions, progress: Progress) -> None:
        self.options = options
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[None]:
        self.progress.stage(name, total)
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    def run(
        self,
        source: str | Path | onnx.ModelProto,
        calibration: str | Path | CalibrationReader | None,
        preprocessing: Preprocessing | None,
        output: Path | None,
    ) -> CompileResult:
        path = None if isinstance(source, onnx.ModelProto) else Path(source)
        check_output(path, output)
        with self.stage("canonicalise"):
            original = load_model(source)
            inputs = model_inputs(original)
            canonical = canonicalise(original, self.options.verify_each)
        widths = self.choose_widths(canonical)
        data = open_calibration(calibration, inputs, preprocessing, self.options.images, path)
        if data.warning:
            self.warnings.append(data.warning)
        float_run = float_session(original, self.options.threads)
        first = _feeds(data.reader, 1)
        check_equal(float_run, canonical.model, first[0], self.options.threads)
        if self.options.stop_after == "canonicalise":
            return self.finish(original, canonical, None, widths, data, None, output)
        statistics = self.statistics(canonical, data)
        planned = self.plan(canonical, statistics, widths, data.reader)
        with self.stage("rewrite the graph"):
            passes = self.rewrite(canonical, planned.plan)
        return self.finish(
            original, canonical, planned, widths, data, passes, output, float_run=first_output(float_run)
        )

    def choose_widths(self, canonical: Canonical) -> Widths:
        """Widths given by ``--bits``, or the best that the budget buys."""
        products = free_products(canonical.structure)
        options = self.options
        if options.bits is None:
            budget = DEFAULT_BOP_BUDGET if options.bop_budget is None else options.bop_budget
            return choose_uniform(products, budget)
        widths = parse_widths(options.bits)
        spent = fraction_of_w8a8(products, widths)
        if options.bop_budget is not None and spent > options.bop_budget * (1 + 1e-9):
            raise BudgetError(
                f"--bits {widths} costs {math.ceil(spent * 1e4) / 1e4:.4f} of W8A8, more than "
                f"--bop-budget {options.bop_budget:g}; "
                "raise the budget or leave --bits out"
            )
        return widths

    def statistics(self, canonical: Canonical, data: CalibrationSource) -> Statistics:
        """Statistics from a file, or from one run over the data."""
        sites = all_sites(canonical.structure)
        wanted = requests(sites, operands(canonical.model, sites))
        if self.options.stats is not None:
            found = Statistics.load(self.options.stats)
            if found.model != model_hash(canonical.model):
                raise CalibrationDataError(
                    f"{self.options.stats} holds statistics of another model; calibrate again with --save-stats"
                )
            return found
        done = 0

        def advance(images: int) -> None:
            nonlocal done
            self.progress.advance(images - done)
            done = images

        with self.stage("calibrate", data.count):
            statistics = collect(
                canonical.model,
                wanted,
                data.reader,
                threads=self.options.threads,
                source=data.to_dict(),
                progress=advance,
            )
        if self.options.save_stats is not None:
            statistics.save(self.options.save_stats)
        return statistics

    def plan(
        self, canonical: Canonical, statistics: Statistics, widths: Widths, reader: CalibrationReader
    ) -> Planned:
        """The quantization plan, measured on a few images of the data."""
        begin = time.perf_counter()
        sites = all_sites(canonical.structure)
        planner = Planner(
            canonical.model,
            canonical.structure,
            statistics,
            operands(canonical.model, sites),
            self.options,
            self.progress,
        )
        planned = planner.plan(widths, _feeds(reader, self.options.probe_images))
        self.seconds["plan"] = time.perf_counter() - begin
        return planned

    def rewrite(self, canonical: Canonical, plan: QuantPlan) -> tuple[PassReport, ...]:
        """Run the QUANTIZE passes and, unless asked to stop, the LOWER passes; the graph is edited in place."""
        arguments: Mapping[type[Pass], tuple[Any, ...]] = {
            QuantizeLinears: (plan.linears,),
            QuantizeAttention: (plan.attentions,),
        }
        graph = canonical.graph
        each = self.options.verify_each
        reports = run_passes(graph, [make(*arguments.get(make, ())) for make in QUANTIZE], verify_each=each)
        verify(graph, "quantized")
        if self.options.stop_after == "lower":
            reports += run_passes(graph, [make() for make in LOWER], verify_each=each)
            verify(graph, "lowered")
        return tuple(reports)

    def finish(
        self,
        original: onnx.ModelProto,
        canonical: Canonical,
        planned: Planned | None,
        widths: Widths,
        data: CalibrationSource,
        passes: tuple[PassReport, ...] | None,
        output: Path | None,
        float_run: Any = None,
    ) -> CompileResult:
        """Export, evaluate, annotate, write, and load what was written."""
        model = finish(canonical.graph)
        agreement: Agreement | None = None
        if float_run is not None:
            with self.stage("compare with float", data.count):
                session = quantized_session(model, self.options.threads)
                agreement = measure_agreement(float_run, first_output(session), data.reader, data.count)
        bookkeeping = {} if planned is None else planned.bookkeeping
        plan = None if planned is None else planned.plan
        report = CompileReport(
            version=__version__,
            method=self.options.method,
            widths=str(widths),
            options=self.options.to_dict(),
            calibration=data.to_dict(),
            layers=layer_reports(
                canonical.structure, plan, bookkeeping, [node.name for node in canonical.model.graph.node]
            ),
            bops=bit_operations(canonical.structure, bookkeeping, widths, self.options.first_last_bits),
            passes=canonical.passes + (passes or ()),
            bytes_before=original.ByteSize(),
            bytes_after=0,
            agreement=None if agreement is None else agreement.to_dict(),
            warnings=tuple(self.warnings),
            seconds=self.seconds,
        )
        annotate(model, report)
        report = CompileReport(**{**vars(report), "bytes_after": model.ByteSize()})
        result = CompileResult(model, report)
        if output is not None:
            with self.stage("write and load again"):
                written = result.save(output)
                try:
                    check_written(output, _feeds(data.reader, 1)[0], self.options.threads)
                except BaseException:
                    for path in written:  # a model that does not run must not be found later
                        path.unlink(missing_ok=True)
                    raise
        return result


def check_output(source: Path | None, output: Path | None) -> None:
    """Refuse an output that is the input.

    Raises:
        OutputPathError: They are the same file.
    """
    if source is None or output is None:
        return
    if output.resolve() == source.resolve() or (output.exists() and source.exists() and output.samefile(source)):
        raise OutputPathError(f"the output '{output}' is the input model; give another path with -o")


def quantized_session(model: onnx.ModelProto | Path, threads: int) -> Any:
    """A session with the operator library where it is installed.

    Raises:
        RuntimeLibraryError: The library cannot be used.
    """
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        return runtime_ops.session(source, threads=threads or None)
    except runtime_ops.LibraryError as error:
        raise RuntimeLibraryError(str(error)) from error


def check_written(path: Path, feed: Feed, threads: int) -> None:
    """Load the written model and run it once.

    Raises:
        VerificationError: It does not load, or its output is not finite.
    """
    try:
        output = quantized_session(path, threads).run(None, dict(feed))[0]
    except RuntimeLibraryError:
        raise
    except Exception as error:
        raise VerificationError(f"'{path}' was written but does not run: {str(error).splitlines()[0]}") from error
    if not np.isfinite(output).all():
        raise VerificationError(f"'{path}' was written but its output holds NaN or infinity")


def _feeds(reader: CalibrationReader, count: int) -> list[Feed]:
    """The first ``count`` feeds, from the start of the data.

    Raises:
        CalibrationDataError: There are none.
        OptionError: The reader cannot start again.
    """
    rewind = getattr(reader, "rewind", None)
    if rewind is None:
        raise OptionError("the calibration reader has no rewind(); qcompile reads the data several times")
    rewind()
    found = list(islice(iter(reader.get_next, None), count))
    if not found:
        raise CalibrationDataError("the calibration data is empty: give at least one image")
    return found
