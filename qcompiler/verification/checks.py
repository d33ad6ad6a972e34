"""What a check found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One check of a file.

    Attributes:
        name: What was checked, one word.
        status: ``ok``, ``failed``, or ``skipped`` where it could not be made.
        text: What was found, one line; with a failure what is wrong and where.
    """

    name: str
    status: Status
    text: str


@dataclass(frozen=True)
class Verification:
    """All checks of a file, in the order in which they were made."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed; those that were skipped say nothing."""
        return all(check.status != "failed" for check in self.checks)

    def to_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}


def judged(name: str, problems: Sequence[str], fine: str) -> Check:
    """Failed with the first of the problems and how many more there are, else ok.

    Args:
        name: What was checked.
        problems: One line each.
        fine: What to say where there are none.
    """
    if not problems:
        return Check(name, "ok", fine)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Check(name, "failed", problems[0] + more)
