"""Relevance and sensitivity of a model's layers, without a compilation."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import onnx

from qcompiler import __version__
from qcompiler.calibration.feeds import CalibrationReader
from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.driver.fitting import fit_candidates
from qcompiler.driver.image_counts import probe_images
from qcompiler.driver.images import first_images
from qcompiler.driver.layer_analyses import conservation, layer_analyses
from qcompiler.driver.losses import LossMeasurement
from qcompiler.driver.outputs import check_places, write_all
from qcompiler.driver.resume import Resume
from qcompiler.driver.stages import Opened, Stages
from qcompiler.options import CompileOptions
from qcompiler.progress import Progress, Silent
from qcompiler.report.analysis import AnalysisResult


def analyze_model(
    model: str | Path | onnx.ModelProto,
    options: CompileOptions | None = None,
    calibration: str | Path | CalibrationReader | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    progress: Progress | None = None,
) -> AnalysisResult:
    """Measure how relevant each layer of a float vision transformer is, and what narrow widths of it cost.

    Sensitivities are those of the widths that a compilation with the same options would search, each with the best
    scheme that it would choose from: measured near the budget's uniform width, elsewhere estimated from the
    quantization error (``effort="high"`` measures all).

    Args:
        model: Path of an ONNX file, or a model in memory; never changed.
        options: As for a compilation; budgets, effort, rule, executor and the folder of ``resume`` matter, output
            options do not.
        calibration: As for :func:`~qcompiler.driver.compile.compile_model`.
        preprocessing: How image files become values.
        progress: Told about the stages.

    Returns:
        Relevance and sensitivity of every layer.

    Raises:
        QcompilerError: One of its subclasses for everything a user can fix; nothing is written then.
    """
    options, progress = options or CompileOptions(), progress or Silent()
    check_places([options.save_stats])
    stages = Stages(options, progress)
    opened = stages.open(model, calibration, preprocessing)
    with closing(Resume(options, opened.canonical.model, opened.data)) as resume:
        return _analyze(stages, opened, resume)


def _analyze(stages: Stages, opened: Opened, resume: Resume) -> AnalysisResult:
    """From calibration to the result; what `resume` keeps is forgotten then."""
    options, progress = stages.options, stages.progress
    canonical, reader = opened.canonical, opened.data.reader
    statistics = resume.statistics(lambda: stages.statistics(opened))
    relevance = resume.relevance(lambda: stages.relevance(opened))
    candidates = fit_candidates(stages.realiser(opened, statistics), opened.method.space, options, progress)
    measurement = LossMeasurement(
        opened.predicting, canonical.structure, opened.operands, opened.method, options, progress, resume
    )
    table = measurement.run(candidates, first_images(reader, probe_images(options, canonical.structure)))
    progress.stop()
    order = [node.name for node in canonical.model.graph.node]
    result = AnalysisResult(
        version=__version__,
        options=options.to_dict(),
        calibration=opened.data.to_dict(),
        layers=layer_analyses(canonical.structure, order, relevance, table),
        lrp_rule=relevance.rule,
        conservation=conservation(relevance),
        warnings=tuple(stages.warnings),
        seconds=stages.seconds,
    )
    write_all([(options.save_stats, statistics.save)])
    result = replace(result, resumed=resume.taken())
    resume.remove()
    return result
