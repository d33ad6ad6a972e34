"""Top-1 of several models on the same labelled images, compared image by image with the float model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import CalibrationDataError
from qcompiler.evaluation.redraws import redrawn
from qcompiler.evaluation.runs import Feed, Run, logits_of, standard_error
from qcompiler.quant.divergence import kl_divergence

_Shares = npt.NDArray[np.float64]  # of the draws of every image


@dataclass(frozen=True)
class Accuracy:
    """One model on one set of labelled images; everything but `images`, `draws` and `kl` in percent.

    Attributes:
        model: its label.
        images: how many.
        top1: share whose largest logit is the label's (the lowest index on ties).
        top1_se: standard error of `top1`: how far it may be from that on other images of the kind.
        drop: `top1` of the reference minus this one's.
        drop_se: standard error of `drop` over the same images, paired: it is the smaller the fewer predictions differ.
        agreement: share with the reference's prediction, right or wrong.
        kl: mean of KL(softmax(reference) || softmax(model)), nats.
        draws: how often every image was run; everything else is the mean over them.
    """

    model: str
    images: int
    top1: float
    top1_se: float
    drop: float
    drop_se: float
    agreement: float
    kl: float
    draws: int = 1

    def to_dict(self) -> dict[str, object]:
        """For the report and `--json`."""
        return asdict(self)


def measure_accuracy(
    models: Mapping[str, Run],
    batches: Iterable[tuple[Feed, npt.NDArray[np.integer]]],
    reference: str = "float",
    draws: int = 1,
) -> tuple[Accuracy, ...]:
    """Run every model on every batch.

    Args:
        models: label -> run; must hold `reference`.
        batches: (feed, labels int [n]); outputs behind the first n rows are ignored.
        reference: label of the model the others are compared with.
        draws: how often the others run every image, with other luck at the edges of codes: see
            :mod:`qcompiler.evaluation.redraws`.

    Returns:
        One result a model, in the order of `models`.

    Raises:
        CalibrationDataError: no images, or labels that are no class of the model.
        NonFiniteError: a model gives NaN or infinity.
    """
    hits: dict[str, list[_Shares]] = {label: [] for label in models}
    same: dict[str, list[_Shares]] = {label: [] for label in models}
    divergence: dict[str, list[_Shares]] = {label: [] for label in models}
    for number, (feed, labels) in enumerate(batches):
        expected = logits_of(models[reference], feed, len(labels), reference)
        if labels.min() < 0 or labels.max() >= expected.shape[1]:
            given = f"labels from {labels.min()} to {labels.max()}"
            raise CalibrationDataError(
                f"{given}, but the model has {expected.shape[1]} classes, of which 0 is the first"
            )
        for label, run in models.items():
            if label == reference:
                found = expected[None]
            else:
                feeds = [redrawn(feed, draw, number) for draw in range(draws)]
                found = np.stack([logits_of(run, item, len(labels), label) for item in feeds])
            predicted = found.argmax(axis=2)
            hits[label].append((predicted == labels).mean(axis=0))
            same[label].append((predicted == expected.argmax(axis=1)).mean(axis=0))
            divergence[label].append(np.mean([kl_divergence(expected, logits) for logits in found], axis=0))
    if not hits[reference]:
        raise CalibrationDataError("no labelled images to measure accuracy on")
    right = {label: np.concatenate(rows) for label, rows in hits.items()}
    return tuple(
        Accuracy(
            model=label,
            images=len(right[label]),
            top1=100 * float(right[label].mean()),
            top1_se=100 * standard_error(right[label]),
            drop=100 * float((right[reference] - right[label]).mean()),
            drop_se=100 * standard_error(right[reference] - right[label]),
            agreement=100 * float(np.concatenate(same[label]).mean()),
            kl=float(np.concatenate(divergence[label]).mean()),
            draws=1 if label == reference else draws,
        )
        for label in models
    )
