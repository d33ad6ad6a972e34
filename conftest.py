"""Keeps the checkout off sys.path: the tests must meet the installed `qcompiler`, whose folders lie elsewhere here."""

import os
import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _CHECKOUT]
# The same for processes that tests start here (from Python 3.11; a test that must also hold on 3.10 passes `cwd`).
os.environ["PYTHONSAFEPATH"] = "1"
