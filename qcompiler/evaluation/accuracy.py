"""Top-1 of several models on the same labelled images, compared image by image with the float model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import CalibrationDataError
from qcompiler.evaluation.runs import Feed, Run, logits_of, standard_error
from qcompiler.quant.divergence import kl_divergence


@dataclass(frozen=True)
class Accuracy:
    """One model on one set of labelled images; everything but `images` and `kl` in percent.

    Attributes:
        model: its label.
        images: how many.
        top1: share whose largest logit is the label's (the lowest index on ties).
        top1_se: standard error of `top1`: how far it may be from that on other images of the kind.
        drop: `top1` of the reference minus this one's.
        drop_se: standard error of `drop` over the same images, paired: it is the smaller the fewer predictions differ.
        agreement: share with the reference's prediction, right or wrong.
        kl: mean of KL(softmax(reference) || softmax(model)), nats.
    """

    model: str
    images: int
    top1: float
    top1_se: float
    drop: float
    drop_se: float
    agreement: float
    kl: float

    def to_dict(self) -> dict[str, object]:
        """For the report and `--json`."""
        return asdict(self)


def measure_accuracy(
    models: Mapping[str, Run],
    batches: Iterable[tuple[Feed, npt.NDArray[np.integer]]],
    reference: str = "float",
) -> tuple[Accuracy, ...]:
    """Run every model on every batch.

    Args:
        models: label -> run; must hold `reference`.
        batches: (feed, labels int [n]); outputs behind the first n rows are ignored.
        reference: label of the model the others are compared with.

    Returns:
        One result a model, in the order of `models`.

    Raises:
        CalibrationDataError: no images, or labels that are no class of the model.
        NonFiniteError: a model gives NaN or infinity.
    """
    hits: dict[str, list[npt.NDArray[np.bool_]]] = {label: [] for label in models}
    same: dict[str, list[npt.NDArray[np.bool_]]] = {label: [] for label in models}
    divergence: dict[str, list[npt.NDArray[np.float64]]] = {label: [] for label in models}
    for feed, labels in batches:
        expected = logits_of(models[reference], feed, len(labels), reference)
        if labels.min() < 0 or labels.max() >= expected.shape[1]:
            found = f"labels from {labels.min()} to {labels.max()}"
            raise CalibrationDataError(
                f"{found}, but the model has {expected.shape[1]} classes, of which 0 is the first"
            )
        for label, run in models.items():
            logits = expected if label == reference else logits_of(run, feed, len(labels), label)
            predicted = logits.argmax(axis=1)
            hits[label].append(predicted == labels)
            same[label].append(predicted == expected.argmax(axis=1))
            divergence[label].append(kl_divergence(expected, logits))
    if not hits[reference]:
        raise CalibrationDataError("no labelled images to measure accuracy on")
    right = {label: np.concatenate(rows).astype(np.float64) for label, rows in hits.items()}
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
        )
        for label in models
    )
