"""Keeps the checkout off sys.path: the tests must meet the installed `qcompiler`, whose folders lie elsewhere here."""

import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _CHECKOUT]
