"""Predicted losses of all candidates of one operand, from the few that were measured.

Within one operand and one family of quantizers the loss grows as the squared error does. The measured losses therefore
say what a unit of error costs, and errors, which need no run of the model, say the rest. Between families it differs:
groups of channels err in other places than blocks of a token.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

from qcompiler.relevance.jobs import Measured

LEAST = 1e-12  # of a loss or an error: measurements that vanish in rounding still count as small


def predicted_losses(
    errors: Sequence[float], measured: Mapping[int, Measured], families: Sequence[Hashable] | None = None
) -> list[float]:
    """KL divergences in nats, one per candidate: measured where it was, else error times the rate of its family.

    Args:
        errors: Relative squared error of every candidate.
        measured: Measurements by the index of the candidate, at least one.
        families: Family of every candidate, None for one of all. Where nothing of a family was measured, the rate is
            that of all measurements.
    """
    names = [None] * len(errors) if families is None else list(families)
    rates = {
        name: _rate(errors, {i: found for i, found in measured.items() if names[i] == name} or measured)
        for name in set(names)
    }
    return [
        measured[index].kl if index in measured else rates[names[index]] * error for index, error in enumerate(errors)
    ]


def _rate(errors: Sequence[float], measured: Mapping[int, Measured]) -> float:
    """Geometric mean of nats per error."""
    logarithms = [math.log(max(found.kl, LEAST) / max(errors[index], LEAST)) for index, found in measured.items()]
    return math.exp(sum(logarithms) / len(logarithms))


def relevance_losses(errors: Sequence[float], relevance: float) -> list[float]:
    """Where nothing is measured an error costs as much as its layer is relevant (the idea of LRP-QViT)."""
    return [max(relevance, LEAST) * error for error in errors]
