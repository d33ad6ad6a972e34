"""Temporary folders that do not outlive a killed process for long: the next one removes them.

A folder holds a file that its process keeps locked; the system releases the lock when the process ends, however it
ends. Unlike a process number, a lock is also right where containers share a folder for temporary files.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import weakref
from pathlib import Path
from tempfile import TemporaryDirectory

PREFIX = "qcompile-"
LOCK = "lock"


def temporary_folder() -> TemporaryDirectory[str]:
    """A new folder for temporary files, removed with the object.

    Raises:
        OSError: It cannot be made.
    """
    folder = TemporaryDirectory(prefix=PREFIX)
    handle = _locked(Path(folder.name))
    if handle is not None:
        weakref.finalize(folder, os.close, handle)
    return folder


def remove_abandoned() -> None:
    """Remove the folders of this user whose processes have ended without doing so; what cannot be removed stays."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # removed meanwhile, or none of ours, or not locked yet
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its process is alive
            continue
        finally:
            os.close(handle)


def _locked(folder: Path) -> int | None:
    """Lock a folder; None where the file system knows no locks, and the folder then stays if the process is killed."""
    # The name that others look for appears with the lock on it.
    handle, name = tempfile.mkstemp(dir=folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(name, folder / LOCK)
    except OSError:
        os.close(handle)
        return None
    return handle
