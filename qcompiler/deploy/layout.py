"""The files of a deployment before any of them is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Content = str | Path


@dataclass(frozen=True)
class Layout:
    """Files by their relative paths: text to write, or a file to copy.

    Attributes:
        shared: Beside the folders of all models. One that exists already is the user's and stays as it is.
        model: In the model's own folder, shared by its versions.
        version: In the folder of one version.
        contract: What all versions of the model must have in common; plain values for JSON.
        opened: The model as the server opens it, relative to the folder of the version.
        registered: The operator library, likewise; None where there is none.
    """

    shared: Mapping[str, Content]
    model: Mapping[str, Content]
    version: Mapping[str, Content]
    contract: Mapping[str, Any]
    opened: str
    registered: str | None
