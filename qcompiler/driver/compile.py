"""One compilation from start to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

from qcompiler import __version__
from qcompiler.calibration.feeds import CalibrationReader
from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.calibration.statistics import Statistics
from qcompiler.driver.activation_range import WatchedRun
from qcompiler.driver.annotate import annotate, finish
from qcompiler.driver.checks import check_collapse, check_cost, check_output, check_written
from qcompiler.driver.coverage import measure_coverage
from qcompiler.driver.effort import LEVELS
from qcompiler.driver.image_counts import probe_images, trial_images
from qcompiler.driver.images import first_feeds, first_images
from qcompiler.driver.latency import PlanTimes
from qcompiler.driver.layers import bit_operations, layer_reports, widths_text
from qcompiler.driver.outputs import check_places, write_all
from qcompiler.driver.predictions import IMAGES, correct_predictions, predicting_layers
from qcompiler.driver.quality import folded_norms, layer_sqnr
from qcompiler.driver.realise import Planned, Realiser
from qcompiler.driver.resume import Resume
from qcompiler.driver.rewriting import rewrite
from qcompiler.driver.runtime import quantized_session
from qcompiler.driver.search import Found, Search
from qcompiler.driver.searched import Searched
from qcompiler.driver.stages import Opened, Stages
from qcompiler.evaluation.agreement import Agreement, measure_agreement
from qcompiler.evaluation.runs import float_outputs
from qcompiler.ir.functions import FLOAT32
from qcompiler.ir.passes import PassReport
from qcompiler.ir.saving import save_model
from qcompiler.ir.weight_files import WeightFiles, model_bytes
from qcompiler.options import CompileOptions
from qcompiler.progress import Progress, Silent
from qcompiler.quant.choices import Choices
from qcompiler.quant.plan import QuantPlan
from qcompiler.relevance.lrp import RelevanceResult
from qcompiler.report.coverage_text import warning as coverage_warning
from qcompiler.report.search import SearchReport
from qcompiler.report.values import CompileReport


@dataclass(frozen=True)
class CompileResult:
    """A compiled model and what was done to it.

    Attributes:
        model: The model, with function bodies and annotations.
        report: What it cost.
        search: What was measured and tried out to find the plan; None when the compilation stopped early.
        resumed: What was taken over from an interrupted compilation, in words; None where nothing was looked for.
        files: Weights of a large model (above 512 MiB), which are external data of ``model``: they lie in temporary
            files as long as this object is there, and :meth:`save` writes them out.
    """

    model: onnx.ModelProto
    report: CompileReport
    search: SearchReport | None = None
    resumed: str | None = None
    files: WeightFiles | None = field(default=None, repr=False, compare=False)

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
    options = options or CompileOptions()
    place = None if output is None else Path(output)
    check_output(None if isinstance(model, onnx.ModelProto) else Path(model), place)
    check_places((place, options.save_stats, options.save_plan))
    return _Compilation(Stages(options, progress or Silent())).run(model, calibration, preprocessing, place)


class _Compilation:
    """One run over the stages."""

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        self.options = stages.options

    def run(
        self,
        source: str | Path | onnx.ModelProto,
        calibration: str | Path | CalibrationReader | None,
        preprocessing: Preprocessing | None,
        output: Path | None,
    ) -> CompileResult:
        opened = self.stages.open(source, calibration, preprocessing)
        if self.options.stop_after == "canonicalise":
            result = self.finish(opened, None, ())
            write_all([(output, self.writer(result, opened.data.reader))])
            return result
        times = self.times(opened)
        resume = Resume(self.options, opened.canonical.model, opened.data)
        with closing(resume):
            return self.compile(opened, times, resume, output)

    def compile(self, opened: Opened, times: PlanTimes | None, resume: Resume, output: Path | None) -> CompileResult:
        """From calibration to the written files; what `resume` keeps is forgotten then."""
        statistics = resume.statistics(lambda: self.stages.statistics(opened))
        searched = self.plan(opened, statistics, times, resume)
        with self.stages.stage("rewrite the graph"):
            passes = rewrite(
                opened.canonical.graph,
                searched.planned.plan,
                lower=self.options.stop_after == "lower",
                verify_each=self.options.verify_each,
                activations=self.options.activations,
            )
        result = replace(self.finish(opened, searched, passes, times), resumed=resume.taken())
        write_all(
            [
                (self.options.save_stats, statistics.save),
                (self.options.save_plan, searched.choices.save),
                (output, self.writer(result, opened.data.reader)),
            ]
        )
        resume.remove()
        return result

    def times(self, opened: Opened) -> PlanTimes | None:
        """What plans take on this machine; None without a latency budget."""
        budget = self.options.latency_budget
        if budget is None:
            return None
        feed = first_feeds(opened.data.reader, 1)[0]
        return PlanTimes(opened.original, opened.canonical.structure, feed, budget, self.stages.progress)

    def plan(self, opened: Opened, statistics: Statistics, times: PlanTimes | None, resume: Resume) -> Searched:
        """The quantization plan: searched, or read from a file; weights are fitted to all images."""
        options, reader = self.options, opened.data.reader
        realiser = self.stages.realiser(opened, statistics)
        found: Found | None = None
        relevance: RelevanceResult | None = None
        if options.bits_file is not None:
            choices = Choices.load(options.bits_file)
        else:
            if opened.method.relevance:
                relevance = resume.relevance(lambda: self.stages.relevance(opened))
            scores = relevance.scores if relevance is not None else {}
            search = Search(
                opened.predicting,
                realiser,
                opened.operands,
                opened.method,
                options,
                scores,
                self.stages.progress,
                times,
                resume,
            )
            structure = opened.canonical.structure
            counts = probe_images(options, structure), trial_images(options, structure)
            probes, trials = (first_images(reader, count) for count in counts)
            found = search.run(
                probes,
                trials,
                model_bytes(opened.original),
                self._fitted_images(opened),
                lambda plans: self.final_plans(opened, realiser, plans),
            )
            choices = found.choices
        if choices.weight_images is None:  # a plan keeps the images of the effort that it was made with
            choices = replace(choices, weight_images=LEVELS[options.effort].weight_images or 0)
        with self.stages.stage("quantize weights", opened.data.count):
            planned = self.delivered(opened, realiser, choices, self.stages.counter())
        if opened.data.kind != "synthetic":  # images that look like none say nothing of the mean of others
            planned = replace(planned, plan=self.corrected(opened, planned.plan, choices.weight_images))
        return Searched(
            choices, planned, found, relevance, layer_sqnr(realiser, planned), folded_norms(realiser, planned)
        )

    def final_plans(self, opened: Opened, realiser: Realiser, plans: Sequence[Choices]) -> Iterator[QuantPlan]:
        """Plans of a search with the weights that each would be delivered with."""
        most = LEVELS[self.options.effort].weight_images
        realiser.fit_weights(plans, opened.data.reader, most=most, held=opened.data.count)
        return (self.delivered(opened, realiser, choices).plan for choices in plans)

    def delivered(
        self,
        opened: Opened,
        realiser: Realiser,
        choices: Choices,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Planned:
        """A plan with weights fitted to as many images as it says, or as the effort says."""
        most = LEVELS[self.options.effort].weight_images if choices.weight_images is None else choices.weight_images
        return realiser.realise(choices, opened.data.reader, progress, most=most or None, held=opened.data.count)

    def corrected(self, opened: Opened, plan: QuantPlan, most: int | None) -> QuantPlan:
        """The plan with corrections of the biases of its predictions, from as many images as the weights."""
        model = opened.canonical.model
        images = min((count for count in (most, opened.data.count) if count), default=None)
        layers = predicting_layers(model, opened.canonical.structure)
        if not layers:
            return plan
        with self.stages.stage("correct the bias of predictions", None if images is None else min(images, IMAGES)):
            return correct_predictions(
                plan,
                layers,
                model,
                opened.session,
                opened.data.reader,
                images,
                self.options.threads,
                self.stages.progress,
            )

    def _fitted_images(self, opened: Opened) -> int | None:
        """Images that weights are fitted to, if known."""
        limits = (LEVELS[self.options.effort].weight_images, opened.data.count)
        return min((count for count in limits if count is not None), default=None)

    def finish(
        self,
        opened: Opened,
        searched: Searched | None,
        passes: tuple[PassReport, ...],
        times: PlanTimes | None = None,
    ) -> CompileResult:
        """Export, evaluate, annotate and check against the budgets."""
        canonical, data = opened.canonical, opened.data
        model = finish(canonical.graph, opened.files)
        agreement: Agreement | None = None
        if searched is not None:
            with self.stages.stage("compare with float", data.count):
                agreement = self.compared(opened, model)
            collapse = check_collapse(self.options, agreement)
            if collapse is not None:
                self.stages.warnings.append(collapse)
        order = [node.name for node in canonical.model.graph.node]
        layers = () if searched is None else layer_reports(canonical.structure, order, searched.facts())
        coverage = None if searched is None else measure_coverage(canonical.model, canonical.structure, layers)
        poor = None if coverage is None else coverage_warning(coverage)
        report = CompileReport(
            version=__version__,
            method=self.options.method,
            widths=widths_text(layers, opened.method.centre),
            options=self.options.to_dict(),
            calibration=data.to_dict(),
            layers=layers,
            bops=bit_operations(canonical.structure, layers, opened.method.centre),
            passes=canonical.passes + passes,
            bytes_before=model_bytes(opened.original),
            bytes_after=0,
            agreement=None if agreement is None else agreement.to_dict(),
            warnings=(*self.stages.warnings, *([poor] if poor else [])),
            seconds=self.stages.seconds,
            loss=None if searched is None else searched.loss(),
            latency=None if searched is None or times is None else times.report(searched.planned.plan),
            coverage=coverage,
        )
        annotate(model, report)
        report = replace(report, bytes_after=model_bytes(model))
        if searched is None:
            return CompileResult(model, report, files=opened.files)
        check_cost(self.options, report)
        if times is not None and report.latency is not None:
            with self.stages.stage("time the model"):
                report = replace(report, latency=replace(report.latency, measured=times.measure(model)))
        return CompileResult(
            model, report, searched.report(canonical.structure, order, self.options), files=opened.files
        )

    def compared(self, opened: Opened, model: onnx.ModelProto) -> Agreement:
        """The finished model against float on the calibration images; float16 activations are watched on the way."""
        data, threads = opened.data, self.options.threads
        exact = float_outputs(opened.session)
        if self.options.activations == FLOAT32:
            run = float_outputs(quantized_session(model, threads))
            return measure_agreement(exact, run, data.reader, data.count)
        watched = WatchedRun(model, threads)
        found = measure_agreement(exact, watched, data.reader, data.count)
        near = watched.warning()
        if near is not None:
            self.stages.warnings.append(near)
        return found

    def writer(self, result: CompileResult, reader: CalibrationReader) -> Callable[[Path], list[Path]]:
        """Writes the model, loads it again and runs it; a file that does not run is not left behind."""

        def write(path: Path) -> list[Path]:
            with self.stages.stage("write and load again"):
                written = result.save(path)
                try:
                    check_written(path, first_feeds(reader, 1)[0], self.options.threads)
                except BaseException:
                    for file in written:  # a model that does not run must not be found later
                        file.unlink(missing_ok=True)
                    raise
            return written

        return write
