"""Attempts that end as attempts must not: a test of the harness."""

from __future__ import annotations

import os

import numpy as np

from .outcomes import RefusalError, WrongError


def attempt(rng: np.random.Generator) -> str:
    """Every fifth seed or so crashes, hangs, is wrong, is refused, or runs; which, is the generator's first number."""
    number = int(rng.integers(5))
    if number == 0:
        os.abort()
    while number == 1:
        pass
    if number == 2:
        raise WrongError("as planned")
    if number == 3:
        raise RefusalError("as planned")
    return "as planned"
