"""The child's side of ``children``: makes attempts and answers one line for each."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence

import numpy as np

from . import calibration_files, compiled_models, doomed, model_files, operators
from .children import BUSY_SECONDS, RAN, REFUSED, WRONG
from .outcomes import RefusalError

# Family -> one attempt: returns a word about what ran, raises RefusalError for an expected error. Every other exception
# is a failure.
KINDS: dict[str, Callable[[np.random.Generator], str]] = {
    "operators": operators.attempt,
    "models": model_files.attempt,
    "compiled": compiled_models.attempt,
    "data": calibration_files.attempt,
}
DOOMED = {"doomed": doomed.attempt}  # to see that what must not happen is seen


def main(words: Sequence[str]) -> None:
    """``KIND SEED...``; what libraries print goes to stderr, the answers alone to stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()
    kind, seeds = words[0], list(map(int, words[1:]))
    for seed in seeds:
        signal.setitimer(signal.ITIMER_PROF, BUSY_SECONDS)  # its signal ends the process
        outcome, detail = _outcome(kind, seed)
        print(json.dumps({"seed": seed, "outcome": outcome, "detail": detail}), file=answers, flush=True)


def _outcome(kind: str, seed: int) -> tuple[str, str]:
    try:
        return RAN, (KINDS | DOOMED)[kind](np.random.default_rng([*kind.encode(), seed]))
    except RefusalError as refusal:
        return REFUSED, str(refusal)
    except Exception as error:
        place = sys.exc_info()[2]
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f" ({place.tb_frame.f_code.co_filename}:{place.tb_lineno})"
        return WRONG, f"{type(error).__name__}: {error}{where}"[:1000]
