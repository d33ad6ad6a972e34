"""Float against quantized on images without labels: what can be said from the calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from qcompiler.errors import CalibrationDataError, UnsupportedModelError
from qcompiler.evaluation.output_agreement import OutputAgreement, OutputComparison
from qcompiler.evaluation.runs import Feed, RunAll, outputs_of


class Rewindable(Protocol):
    """A calibration reader that starts again."""

    def get_next(self) -> Feed | None:
        """The next feed, or None at the end."""

    def rewind(self) -> None:
        """Start again from the first feed."""


@dataclass(frozen=True)
class Agreement:
    """How close two models are on the same images.

    Numbers over several outputs are those of the worst one; top-1 and divergence are of outputs with class scores, one
    row per image, and None where there is none.

    Attributes:
        images: how many.
        outputs: every compared output by its name, in the model's order.
    """

    images: int
    outputs: Mapping[str, OutputAgreement]

    @property
    def agreement(self) -> float | None:
        """Share of images with the same prediction, percent."""
        return None if self._classes is None else self._classes.agreement

    @property
    def agreement_se(self) -> float | None:
        """Standard error of `agreement`, percent."""
        return None if self._classes is None else self._classes.agreement_se

    @property
    def kl(self) -> float | None:
        """Mean of KL(softmax(float) || softmax(quantized)), nats."""
        return max((item.kl for item in self.outputs.values() if item.kl is not None), default=None)

    @property
    def relative_error(self) -> float:
        """Norm of the difference of an output over the norm of the float one."""
        return self.outputs[self.worst].relative_error

    @property
    def psnr(self) -> float | None:
        """Peak signal-to-noise ratio, dB."""
        return min((item.psnr for item in self.outputs.values() if item.psnr is not None), default=None)

    @property
    def worst(self) -> str:
        """The output with the largest relative error."""
        return max(self.outputs, key=lambda name: self.outputs[name].relative_error)

    @property
    def _classes(self) -> OutputAgreement | None:
        found = [(item.agreement, item) for item in self.outputs.values() if item.agreement is not None]
        return min(found, key=lambda pair: pair[0])[1] if found else None

    def to_dict(self) -> dict[str, object]:
        """For the report and `--json`."""
        return {
            "images": self.images,
            "agreement": self.agreement,
            "agreement_se": self.agreement_se,
            "kl": self.kl,
            "relative_error": self.relative_error,
            "psnr": self.psnr,
            "worst": self.worst,
            "outputs": {name: item.to_dict() for name, item in self.outputs.items()},
        }


def measure_agreement(
    float_run: RunAll, quantized_run: RunAll, reader: Rewindable, images: int | None = None
) -> Agreement:
    """Run both models over the reader's feeds, from its first one.

    Args:
        float_run: the original; its outputs are compared.
        quantized_run: the compiled model.
        reader: the images; rewound first.
        images: number of images at most; give the number of different ones where a fixed batch repeats the last.

    Raises:
        CalibrationDataError: no images.
        NonFiniteError: a model gives NaN or infinity.
        UnsupportedModelError: the shapes of all outputs depend on values, and differ.
    """
    compared: dict[str, OutputComparison] = {}
    varying: set[str] = set()  # outputs that select something, so that the models may find different numbers of it
    done = 0
    reader.rewind()
    while (images is None or done < images) and (feed := reader.get_next()) is not None:
        held = len(next(iter(feed.values())))
        count = held if images is None else min(held, images - done)
        expected = outputs_of(float_run, feed, count, "float")
        found = outputs_of(quantized_run, feed, count, "quantized")
        for name, values in expected.items():
            if values.shape == found[name].shape:
                compared.setdefault(name, OutputComparison()).add(values, found[name], count)
            else:
                varying.add(name)
        done += count
    if not done:
        raise CalibrationDataError("no images to compare the models on")
    outputs = {name: item.result() for name, item in compared.items() if name not in varying}
    if not outputs:
        raise UnsupportedModelError(
            f"output '{min(varying)}' has another shape in the quantized model: it depends on values; end the model "
            "before what selects by value (boxes, tokens), or give such a tensor as a further output"
        )
    return Agreement(done, outputs)
