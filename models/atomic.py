"""Writing a file, and what lies beside it, so that a failure leaves nothing half-written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qcompiler.errors import OutputPathError


@contextmanager
def written_beside(output: Path) -> Iterator[Path]:
    """Gives a path of the same name in a temporary folder; on success everything there moves to `output`'s folder.

    The temporary folder lies in the same file system, so each move is a rename. The file itself moves last: whoever
    sees it also sees the external data that a large model keeps in files beside it.

    Raises:
        OutputPathError: the folder of `output` cannot be made or written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise OutputPathError(f"{output}: cannot be written ({error})") from error
    try:
        yield folder / output.name
        files = sorted(folder.iterdir(), key=lambda path: path.name == output.name)
        try:
            for path in files:
                os.replace(path, output.parent / path.name)
        except OSError as error:
            raise OutputPathError(f"{output}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
