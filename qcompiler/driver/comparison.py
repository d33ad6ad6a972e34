"""Comparisons of finished models: accuracy on labelled images, outputs without classes, and latency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qcompiler.calibration.inputs import Feed
from qcompiler.calibration.labelled import LabelledImages, open_labelled
from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.calibration.readers import open_calibration
from qcompiler.driver.sessions import OpenModels, open_models
from qcompiler.errors import CalibrationDataError, OptionError
from qcompiler.evaluation.accuracy import Accuracy, measure_accuracy
from qcompiler.evaluation.agreement import Agreement, measure_agreement
from qcompiler.evaluation.latency import Latency, measure_latency
from qcompiler.progress import Progress, Silent


@dataclass(frozen=True)
class AccuracyComparison:
    """Models on the same labelled images.

    Attributes:
        results: One per model, the float model first.
        paths: Their files, in the same order.
        images: Where the images come from.
        preprocessing: What turned image files into values; None where the data was given as values.
        operators: What ran the operators of qcompile.
    """

    results: tuple[Accuracy, ...]
    paths: tuple[Path, ...]
    images: str
    preprocessing: Preprocessing | None
    operators: str

    def to_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "images": self.images,
            "preprocessing": self.preprocessing.to_dict() if self.preprocessing else None,
            "operators": self.operators,
            "models": _rows(self.paths, self.results),
        }


@dataclass(frozen=True)
class OutputsComparison:
    """Models whose output is no row of class scores, on the same images.

    Attributes:
        results: Label -> agreement with the float model, of every other model.
        paths: Files of all models, the float model first.
        images: Where the images come from.
        preprocessing: What turned image files into values; None where the data was given as values.
        operators: What ran the operators of qcompile.
    """

    results: Mapping[str, Agreement]
    paths: tuple[Path, ...]
    images: str
    preprocessing: Preprocessing | None
    operators: str

    def to_dict(self) -> dict[str, object]:
        """For ``--json``."""
        rows = zip(self.paths[1:], self.results.items(), strict=True)
        return {
            "images": self.images,
            "preprocessing": self.preprocessing.to_dict() if self.preprocessing else None,
            "operators": self.operators,
            "models": [{"path": str(path), "model": label, **result.to_dict()} for path, (label, result) in rows],
        }


@dataclass(frozen=True)
class LatencyComparison:
    """Models on the same batch.

    Attributes:
        results: One per model, the float model first.
        paths: Their files, in the same order.
        images: Where the batch comes from.
        operators: What ran the operators of qcompile.
    """

    results: tuple[Latency, ...]
    paths: tuple[Path, ...]
    images: str
    operators: str

    def to_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {"images": self.images, "operators": self.operators, "models": _rows(self.paths, self.results)}


def compare_accuracy(
    paths: Sequence[Path],
    images: Path,
    preprocessing: Preprocessing | None = None,
    *,
    limit: int | None = None,
    draws: int = 1,
    batch: int = 8,
    threads: int = 0,
    without_library: bool = False,
    progress: Progress | None = None,
) -> AccuracyComparison | OutputsComparison:
    """Run every model on every image.

    Where the float model's first output is not one row of class scores per image, labels mean nothing: the values of
    all outputs are compared with the float model's instead, and the images need no labels.

    Args:
        paths: The float model, then those to compare with it.
        images: A CSV of file and label, or an ``.npz`` with the inputs and ``labels``; without classes whatever is
            calibration data.
        preprocessing: How image files become values.
        limit: Most images to use; None for all.
        draws: How often the compiled models run every image, with noise that no float model notices; outputs without
            classes are compared once.
        batch: Images per run where no model fixes the batch.
        threads: Threads of ONNX Runtime, 0 for all cores.
        without_library: Run the operators of qcompile on their function bodies.
        progress: Told about the images.

    Raises:
        QcompilerError: A file cannot be used, or the data does not fit the models.
    """
    models = open_models(paths, threads, without_library)
    if not models.classes:
        return _compare_outputs(models, paths, images, preprocessing, limit, progress or Silent())
    data = open_labelled(images, models.inputs, preprocessing, limit, batch)
    progress = progress or Silent()
    progress.stage("evaluate", len(data))
    results = measure_accuracy(models.runs, _watched(data, progress), models.reference, draws)
    return AccuracyComparison(results, tuple(paths), data.description, data.preprocessing, models.operators)


def _compare_outputs(
    models: OpenModels,
    paths: Sequence[Path],
    images: Path,
    preprocessing: Preprocessing | None,
    limit: int | None,
    progress: Progress,
) -> OutputsComparison:
    if len(paths) < 2:
        raise OptionError(
            "the model's first output is no row of class scores, so there is no top-1 to measure: name a model to "
            "compare its outputs with"
        )
    source = open_calibration(images, models.inputs, preprocessing, limit)
    first, *others = models.all_runs
    progress.stage("compare outputs", len(others))
    results = {}
    for label in others:
        results[label] = measure_agreement(models.all_runs[first], models.all_runs[label], source.reader, source.count)
        progress.advance()
    return OutputsComparison(results, tuple(paths), source.description, source.preprocessing, models.operators)


def compare_latency(
    paths: Sequence[Path],
    images: str | None = None,
    preprocessing: Preprocessing | None = None,
    *,
    batch: int | None = None,
    threads: int = 1,
    rounds: int = 9,
    without_library: bool = False,
) -> LatencyComparison:
    """Time models in interleaved rounds on one batch.

    Args:
        paths: The float model, then those to compare with it.
        images: Where the batch comes from, as calibration data is given; None for synthetic images.
        preprocessing: How image files become values.
        batch: Images per run; None for what the models fix, else 1.
        threads: Threads of ONNX Runtime, 0 for all cores.
        rounds: How often all models are timed in turn.
        without_library: Run the operators of qcompile on their function bodies.

    Raises:
        QcompilerError: A file cannot be used, or the batch or data does not fit the models.
    """
    models = open_models(paths, threads, without_library)
    feed, description = open_batch(models, images, preprocessing, batch)
    results = measure_latency(models.runs, feed, models.reference, rounds=rounds, threads=threads)
    return LatencyComparison(results, tuple(paths), description, models.operators)


def open_batch(
    models: OpenModels, images: str | None, preprocessing: Preprocessing | None, batch: int | None
) -> tuple[Feed, str]:
    """One batch that all models read, and where it comes from.

    Args:
        models: The models.
        images: Where the batch comes from, as calibration data is given; None for synthetic images.
        preprocessing: How image files become values.
        batch: Images per run; None for what the models fix, else 1.

    Raises:
        QcompilerError: The batch or data does not fit the models.
    """
    wanted = batch or models.batch or 1
    if models.batch is not None and wanted != models.batch:
        raise OptionError(f"--batch {wanted}: the models fix the batch at {models.batch}")
    # An input of a fixed batch makes every reader deliver just that.
    inputs = [replace(item, shape=(wanted, *item.shape[1:])) for item in models.inputs]
    source = open_calibration(images, inputs, preprocessing, wanted)
    feed = source.reader.get_next()
    if feed is None:
        raise CalibrationDataError(f"--images {images}: no data")
    return feed, source.description


def _watched(data: LabelledImages, progress: Progress) -> Iterator[tuple[Feed, NDArray[np.int64]]]:
    for feed, labels in data:
        yield feed, labels
        progress.advance(len(labels))


def _rows(paths: Sequence[Path], results: Sequence[Accuracy | Latency]) -> list[dict[str, object]]:
    return [{"path": str(path), **result.to_dict()} for path, result in zip(paths, results, strict=True)]
