"""Float against quantized on images without labels: what can be said from the calibration data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qcompiler.errors import CalibrationDataError
from qcompiler.evaluation.runs import Feed, Run, logits_of, standard_error
from qcompiler.quant.divergence import kl_divergence


class Rewindable(Protocol):
    """A calibration reader that starts again."""

    def get_next(self) -> Feed | None:
        """The next feed, or None at the end."""

    def rewind(self) -> None:
        """Start again from the first feed."""


@dataclass(frozen=True)
class Agreement:
    """How close two models are on the same images.

    Attributes:
        images: how many.
        agreement: share with the same prediction, percent.
        agreement_se: its standard error, percent.
        kl: mean of KL(softmax(float) || softmax(quantized)), nats.
        relative_error: norm of the difference of all logits over the norm of the float ones.
    """

    images: int
    agreement: float
    agreement_se: float
    kl: float
    relative_error: float

    def to_dict(self) -> dict[str, object]:
        """For the report and `--json`."""
        return asdict(self)


def measure_agreement(float_run: Run, quantized_run: Run, reader: Rewindable, images: int | None = None) -> Agreement:
    """Run both models over the reader's feeds, from its first one.

    Args:
        float_run: the original.
        quantized_run: the compiled model.
        reader: the images; rewound first.
        images: number of images at most; give the number of different ones where a fixed batch repeats the last.

    Raises:
        CalibrationDataError: no images.
        NonFiniteError: a model gives NaN or infinity.
    """
    same: list[npt.NDArray[np.bool_]] = []
    divergence: list[npt.NDArray[np.float64]] = []
    difference = total = 0.0
    done = 0
    reader.rewind()
    while (images is None or done < images) and (feed := reader.get_next()) is not None:
        held = len(next(iter(feed.values())))
        count = held if images is None else min(held, images - done)
        expected = logits_of(float_run, feed, count, "float")
        found = logits_of(quantized_run, feed, count, "quantized")
        same.append(expected.argmax(axis=1) == found.argmax(axis=1))
        divergence.append(kl_divergence(expected, found))
        difference += float(((expected - found) ** 2).sum())
        total += float((expected**2).sum())
        done += count
    if not done:
        raise CalibrationDataError("no images to compare the models on")
    agreed = np.concatenate(same).astype(np.float64)
    return Agreement(
        images=len(agreed),
        agreement=100 * float(agreed.mean()),
        agreement_se=100 * standard_error(agreed),
        kl=float(np.concatenate(divergence).mean()),
        relative_error=float(np.sqrt(difference / total)) if total else float(np.sqrt(difference)),
    )
