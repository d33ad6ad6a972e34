"""Silence for native code that prints where it was told not to."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send what native code writes to the process's standard output to nowhere.

    HiGHS prints lines of its own there in rare cases even with its output off, which would corrupt ``--json``.
    """
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output to protect
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    # On a pipe C keeps what it prints in a buffer of its own, which would be written after this block.
    flush = ctypes.CDLL(None).fflush
    try:
        flush(None)
        os.dup2(nowhere, 1)
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)
