"""How close one output of two models is, summed up batch by batch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.evaluation.runs import standard_error
from qcompiler.quant.divergence import kl_divergence

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OutputAgreement:
    """One output of the float and the quantized model on the same images.

    Attributes:
        relative_error: Norm of the difference over the norm of the float output.
        psnr: Peak signal-to-noise ratio in dB: the range of the float output's values over the root mean square of the
            difference; None where there is no difference or no range.
        agreement: Share of images with the same prediction, percent; None where the output is not one row of class
            scores per image.
        agreement_se: Its standard error, percent.
        kl: Mean of KL(softmax(float) || softmax(quantized)), nats; None likewise.
    """

    relative_error: float
    psnr: float | None
    agreement: float | None = None
    agreement_se: float | None = None
    kl: float | None = None

    def to_dict(self) -> dict[str, object]:
        """For the report and `--json`."""
        return asdict(self)


class OutputComparison:
    """Takes batches of one output of both models; memory grows by two numbers per image only."""

    def __init__(self) -> None:
        self._difference = self._power = 0.0
        self._values = 0
        self._least, self._most = math.inf, -math.inf
        self._classes = True
        self._same: list[npt.NDArray[np.bool_]] = []
        self._divergence: list[F64] = []

    def add(self, expected: F64, found: F64, images: int) -> None:
        """Count one batch.

        Args:
            expected: The float model's output.
            found: The quantized model's, of the same shape.
            images: Images of the batch; a matrix with so many rows holds class scores.
        """
        self._difference += float(((expected - found) ** 2).sum())
        self._power += float((expected**2).sum())
        self._values += expected.size
        if expected.size:
            self._least = min(self._least, float(expected.min()))
            self._most = max(self._most, float(expected.max()))
        # One column is a score of something, but no choice between classes.
        self._classes &= expected.ndim == 2 and len(expected) == images and expected.shape[1] > 1
        if self._classes:
            self._same.append(expected.argmax(axis=1) == found.argmax(axis=1))
            self._divergence.append(kl_divergence(expected, found))

    def result(self) -> OutputAgreement:
        """What all batches amount to."""
        error = math.sqrt(self._difference / self._power) if self._power else math.sqrt(self._difference)
        span = self._most - self._least
        psnr = None
        if self._difference and span > 0:
            psnr = 10 * math.log10(span**2 * self._values / self._difference)
        if not self._classes or not self._same:
            return OutputAgreement(error, psnr)
        agreed = np.concatenate(self._same).astype(np.float64)
        return OutputAgreement(
            relative_error=error,
            psnr=psnr,
            agreement=100 * float(agreed.mean()),
            agreement_se=100 * standard_error(agreed),
            kl=float(np.concatenate(self._divergence).mean()),
        )
