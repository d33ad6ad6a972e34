"""What a repository holds already, and whether another version may be added to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcompiler.errors import OutputPathError

RECORD_FILE = "deployment.json"


@dataclass(frozen=True)
class DeployedVersion:
    """A version that a repository holds.

    Attributes:
        number: Its number.
        server: What it was written for.
        contract: What later versions must have in common with it.
    """

    number: int
    server: str
    contract: Mapping[str, Any]


def record(qcompile: str, server: str, model_digest: str, contract: Mapping[str, Any]) -> str:
    """The text of `deployment.json`, which every version carries."""
    values = {"qcompile": qcompile, "server": server, "model_sha256": model_digest, "contract": dict(contract)}
    return json.dumps(values, indent=2) + "\n"


def latest_version(folder: Path) -> DeployedVersion | None:
    """The highest version in a model's folder; None where there is no such folder.

    Raises:
        OutputPathError: The folder was not written by qcompile, or its record is damaged.
    """
    if not folder.exists():
        return None
    inside = folder.iterdir() if folder.is_dir() else ()
    numbers = [int(path.name) for path in inside if path.is_dir() and path.name.isdecimal()]
    if not numbers:
        raise OutputPathError(
            f"'{folder}' exists and holds no version of a model; choose another --name or --repository"
        )
    return _read(folder / str(max(numbers)))


def check_server(models: Path, server: str) -> None:
    """Refuse a folder whose models were written for another server.

    Raises:
        OutputPathError: There is such a model.
    """
    # Hidden folders are other processes' work in progress, and may be gone in a moment.
    for path in sorted(models.glob(f"[!.]*/*/{RECORD_FILE}")):
        found = _read(path.parent)
        if found.server != server:
            raise OutputPathError(
                f"'{models}' holds models for {found.server} ('{path.parent.parent.name}'), not {server}; "
                "choose another --repository"
            )


def check_contract(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a version that callers or the server could not take in the place of those before it.

    Raises:
        OutputPathError: It differs in something that versions share; the message names it.
    """
    for key, value in now.items():
        if before.get(key) != value:
            raise OutputPathError(
                f"'{folder}' was deployed with other {key} ({_short(before.get(key))}, now {_short(value)}), which all "
                "versions of a model share; deploy under another --name, or as before"
            )


def _read(folder: Path) -> DeployedVersion:
    try:
        values = json.loads((folder / RECORD_FILE).read_text("utf-8"))
        return DeployedVersion(int(folder.name), str(values["server"]), dict(values["contract"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputPathError(
            f"'{folder}' was not written by qcompile deploy (no readable {RECORD_FILE}); choose another --name or "
            "--repository"
        ) from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:28]}...{text[-28:]}"
