"""What `--effort` means: how much is measured instead of estimated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """The numbers behind one level.

    Attributes:
        widths: Widths of every operand whose sensitivity is measured, at the middle one for every family of
            quantizers; the others follow from their errors.
        neighbours: Widths to choose from on either side of the one that the budget pays for.
        trials: Plans with other weights of parts that are tried out, fewer of a large model, besides those of other
            caution; 0 tries none out.
        relevance_images: Images that relevance is propagated on.
        share_images: Images that the gain of second-order rounding is estimated from.
        weight_images: Images that the weights are fitted to; None for all.
    """

    widths: int
    neighbours: int
    trials: int
    relevance_images: int
    share_images: int
    weight_images: int | None


LEVELS = {
    "low": Effort(widths=1, neighbours=1, trials=0, relevance_images=4, share_images=16, weight_images=48),
    "default": Effort(widths=3, neighbours=2, trials=16, relevance_images=16, share_images=64, weight_images=None),
    "high": Effort(widths=6, neighbours=2, trials=40, relevance_images=32, share_images=64, weight_images=None),
}
