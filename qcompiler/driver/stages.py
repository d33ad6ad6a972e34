"""The stages that compilations and analyses share: from a model file to statistics and relevance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx

from qcompiler.calibration.collector import collect
from qcompiler.calibration.feeds import CalibrationReader
from qcompiler.calibration.float_session import FloatSession
from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.calibration.readers import CalibrationSource, open_calibration
from qcompiler.calibration.statistics import Statistics, model_hash
from qcompiler.driver.canonical import Canonical, blamed_on, canonicalise, check_equal, float_session, model_inputs
from qcompiler.driver.checks import check_bits
from qcompiler.driver.effort import LEVELS
from qcompiler.driver.images import first_feeds, first_images
from qcompiler.driver.layers import free_products
from qcompiler.driver.methods import Method, method_of
from qcompiler.driver.realise import Realiser
from qcompiler.driver.sites import operands, requests
from qcompiler.driver.stage_clock import StageClock
from qcompiler.errors import CalibrationDataError, UnsupportedModelError
from qcompiler.ir.fold_sites import FoldSite, fold_sites
from qcompiler.ir.joint_output import with_joint_output
from qcompiler.ir.loading import load_model
from qcompiler.ir.temporary_folders import remove_abandoned
from qcompiler.ir.weight_files import WeightFiles
from qcompiler.ir.widening import widen
from qcompiler.options import CompileOptions
from qcompiler.progress import Progress
from qcompiler.quant.sites import all_sites
from qcompiler.relevance.lrp import LayerRelevance, RelevanceResult
from qcompiler.relevance.lrp_layers import relevance_tensors
from qcompiler.relevance.suffix import Operand


@dataclass(frozen=True)
class Opened:
    """A model with its calibration data, ready to be analysed.

    Attributes:
        original: The float model as it was given.
        canonical: Its canonical form.
        folds: LayerNormalizations of the canonical graph that may take a fold.
        method: What the options search.
        data: The calibration data.
        session: Runs the float model.
        files: Weights of a large model that lie in no file of the user's.
    """

    original: onnx.ModelProto
    canonical: Canonical
    folds: tuple[FoldSite, ...]
    method: Method
    data: CalibrationSource
    session: FloatSession
    files: WeightFiles

    @property
    def predicting(self) -> onnx.ModelProto:
        """The canonical model with one prediction, which stands for all outputs where there are several."""
        return with_joint_output(self.canonical.model)

    @property
    def operands(self) -> dict[str, Operand]:
        """Operand of every quantizer site of the canonical model."""
        return operands(self.canonical.model, all_sites(self.canonical.structure))


class Stages:
    """Runs the stages, and keeps the clock and the warnings.

    Args:
        options: What to do.
        progress: Told about every stage.
    """

    def __init__(self, options: CompileOptions, progress: Progress) -> None:
        self.options = options
        self.progress = StageClock(progress)
        self.warnings: list[str] = []

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[None]:
        """Announce a stage and time it; what it calls may announce stages of its own."""
        self.progress.stage(name, total)
        yield
        self.progress.stop()

    @property
    def seconds(self) -> dict[str, float]:
        """How long every stage took so far, by its name."""
        return self.progress.seconds

    def counter(self) -> Callable[[int], None]:
        """A callback that takes the number of images so far."""
        done = 0

        def advance(images: int) -> None:
            nonlocal done
            self.progress.advance(images - done)
            done = images

        return advance

    def open(
        self,
        source: str | Path | onnx.ModelProto,
        calibration: str | Path | CalibrationReader | None,
        preprocessing: Preprocessing | None,
    ) -> Opened:
        """Load the model, canonicalise it, open its data, and check that both float models agree.

        Raises:
            QcompilerError: Model, data or options cannot be used.
        """
        path = None if isinstance(source, onnx.ModelProto) else Path(source)
        remove_abandoned()
        with self.stage("canonicalise"):
            files = WeightFiles()
            original = load_model(source, files)
            with blamed_on(original, self.options.threads):
                narrow = widen(original, files)
                inputs = model_inputs(original)
                canonical = canonicalise(original, self.options.verify_each, files)
        if narrow:
            self.warnings.append(
                f"the model is in {' and '.join(narrow)}: it was converted to float32, which sizes and outputs are "
                "compared with, and the written model reads and writes float32"
            )
        products = free_products(canonical.structure)
        method = method_of(self.options, products)
        check_bits(self.options, products, method.centre)
        folds = fold_sites(canonical.graph)
        data = open_calibration(calibration, inputs, preprocessing, self.options.images, path)
        if data.warning:
            self.warnings.append(data.warning)
        session = float_session(original, self.options.threads)
        check_equal(session, canonical.model, first_feeds(data.reader, 1)[0], self.options.threads)
        return Opened(original, canonical, folds, method, data, session, files)

    def statistics(self, opened: Opened) -> Statistics:
        """Statistics from a file, or from one run over the data.

        Raises:
            CalibrationDataError: The file holds none, those of another model, or those of real images where no others
                are given than synthetic ones.
            NonFiniteError: NaN or infinity in an activation.
        """
        model, stats = opened.canonical.model, self.options.stats
        if stats is not None:
            found = Statistics.load(stats)
            if found.model != model_hash(model):
                raise CalibrationDataError(
                    f"{stats} holds statistics of another model; calibrate again with --save-stats"
                )
            if opened.data.kind == "synthetic" and found.source.get("kind") not in (None, "synthetic"):
                raise CalibrationDataError(
                    f"{stats} holds statistics of {found.source['description']} but no images, and plans are tried out "
                    "on images: give them with --calib as well"
                )
            return found
        with self.stage("calibrate", opened.data.count):
            return collect(
                model,
                requests(all_sites(opened.canonical.structure), opened.operands),
                opened.data.reader,
                threads=self.options.threads,
                source=opened.data.to_dict(),
                progress=self.counter(),
            )

    def realiser(self, opened: Opened, statistics: Statistics) -> Realiser:
        """What makes plans of the model."""
        return Realiser(
            opened.canonical.model,
            opened.canonical.structure,
            opened.folds,
            statistics,
            opened.operands,
            integer=self.options.groups == "integer",
            threads=self.options.threads,
        )

    def relevance(self, opened: Opened) -> RelevanceResult:
        """Relevance of all layers on the probe images; equal parts, with a warning, where it cannot be measured.

        Raises:
            UnsupportedModelError: It cannot be measured, and the method is about relevance.
        """
        model = opened.canonical.model
        feeds = first_images(opened.data.reader, LEVELS[self.options.effort].relevance_images)
        images = sum(len(next(iter(feed.values()))) for feed in feeds)
        tensors = relevance_tensors(model, opened.canonical.structure)
        rule = self.options.lrp_rule
        with self.stage("propagate relevance", images):
            try:
                return LayerRelevance(tensors).measure(model, feeds, rule, self.options.threads, self.counter())
            except UnsupportedModelError as error:
                if self.options.method in ("lrp", "mixq"):
                    raise
                self.warnings.append(f"all layers count as equally relevant, because {error}")
                return RelevanceResult(rule, 0, dict.fromkeys(tensors, 1 / len(tensors)), ())
