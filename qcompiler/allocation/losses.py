"""Predicted losses of all candidates of one operand, from the few that were measured.

Within one operand the loss grows as the squared error does, whatever quantizer caused it. The measured losses therefore
say what a unit of error costs, and errors, which need no run of the model, say the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from qcompiler.relevance.jobs import Measured

LEAST = 1e-12  # of a loss or an error: measurements that vanish in rounding still count as small


def predicted_losses(errors: Sequence[float], measured: Mapping[int, Measured]) -> list[float]:
    """KL divergences in nats, one per candidate: measured where it was, else error times the operand's rate.

    Args:
        errors: Relative squared error of every candidate.
        measured: Measurements by the index of the candidate, at least one.
    """
    rate = math.exp(
        sum(math.log(max(found.kl, LEAST) / max(errors[index], LEAST)) for index, found in measured.items())
        / len(measured)
    )
    return [measured[index].kl if index in measured else rate * error for index, error in enumerate(errors)]


def relevance_losses(errors: Sequence[float], relevance: float) -> list[float]:
    """Where nothing is measured an error costs as much as its layer is relevant (the idea of LRP-QViT)."""
    return [max(relevance, LEAST) * error for error in errors]
