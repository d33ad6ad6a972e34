"""Attempts in child processes: a crash or a hang costs one attempt, and says which."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# What an attempt may end in, and what it must not.
REFUSED, RAN = "refused", "ran"
CRASHED, HUNG, WRONG = "crashed", "hung", "wrong"
FAILURES = (CRASHED, HUNG, WRONG)

# Of processor time, which a busy machine does not stretch; and of a clock, for what waits for ever.
BUSY_SECONDS = float(os.environ.get("QCOMPILER_ATTEMPT_SECONDS", "60"))
WAITING_SECONDS = 1800.0
_ROOT = Path(__file__).resolve().parents[2]
# The installed package comes first: the checkout has no operator library unless it is installed from there.
_BOOTSTRAP = (
    "import sys, qcompiler, qcompiler.runtime_ops; sys.path.insert(0, sys.argv[1]); "
    "from tests.robustness import child; child.main(sys.argv[2:])"
)


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt.

    Attributes:
        kind: The family of attempts.
        seed: Makes the same attempt again: ``python -m tests.robustness.campaign KIND --first SEED --count 1``.
        outcome: REFUSED, RAN, or one of FAILURES.
        detail: The error's message, or what went wrong.
    """

    kind: str
    seed: int
    outcome: str
    detail: str

    @property
    def failed(self) -> bool:
        return self.outcome in FAILURES

    def __str__(self) -> str:
        return f"{self.kind} {self.seed}: {self.outcome}: {self.detail}"


def attempts(kind: str, seeds: Iterable[int]) -> list[Attempt]:
    """Make attempts one after the other, in as few processes as the crashes allow.

    Args:
        kind: The family of attempts, a key of ``child.KINDS``.
        seeds: Their seeds.
    """
    found: list[Attempt] = []
    left = list(seeds)
    while left:
        done = _batch(kind, left)
        found += done
        left = left[len(done) :]
    return found


def _batch(kind: str, seeds: Sequence[int]) -> list[Attempt]:
    """At least one attempt: up to the end, the first crash or the first hang."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, "-c", _BOOTSTRAP, str(_ROOT), kind, *map(str, seeds)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(child, lines), daemon=True).start()
        try:
            return _collect(kind, seeds, child, lines, errors)
        finally:
            child.kill()
            child.wait()


def _read(child: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line)
    lines.put(None)


def _collect(
    kind: str,
    seeds: Sequence[int],
    child: subprocess.Popen[str],
    lines: queue.SimpleQueue[str | None],
    errors: IO[str],
) -> list[Attempt]:
    found: list[Attempt] = []
    for seed in seeds:
        try:
            line = lines.get(timeout=WAITING_SECONDS)
        except queue.Empty:
            return [*found, Attempt(kind, seed, HUNG, f"no end after {WAITING_SECONDS:g} s")]
        if line is None:
            code = child.wait()
            if code == -signal.SIGPROF:
                return [*found, Attempt(kind, seed, HUNG, f"no end after {BUSY_SECONDS:g} s of processor time")]
            errors.seek(0)
            last = [text for text in errors.read().splitlines() if text.strip()][-1:] or [""]
            return [*found, Attempt(kind, seed, CRASHED, f"exit code {code}: {last[0]}")]
        answer = json.loads(line)
        assert answer["seed"] == seed
        found.append(Attempt(kind, seed, answer["outcome"], answer["detail"]))
    return found


def counts(found: Iterable[Attempt]) -> dict[str, int]:
    """Attempts by outcome, with their sum as ``tried``."""
    by_outcome = Counter(attempt.outcome for attempt in found)
    return {"tried": sum(by_outcome.values()), **{name: by_outcome[name] for name in (REFUSED, RAN, *FAILURES)}}
