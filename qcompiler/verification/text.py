"""The checks of a file as text: one line each."""

from __future__ import annotations

from rich.table import Table

from qcompiler.report.tables import facts
from qcompiler.verification.checks import Verification


def verification_lines(verification: Verification) -> Table:
    """``name  status: what was found``."""
    return facts([(check.name, f"{check.status}: {check.text}") for check in verification.checks])
