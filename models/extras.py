"""Optional packages: one clear line where one is missing, and timm beside a torchvision that does not fit torch."""

from __future__ import annotations

import importlib
from typing import Any

from qcompiler.errors import OptionError

_KEPT: list[object] = []


def require(name: str, purpose: str) -> Any:
    """Import the optional package `name`.

    Raises:
        OptionError: it is not installed, or it is broken; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken binary package raises OSError or RuntimeError
        raise OptionError(
            f"{purpose} needs the package {name.partition('.')[0]!r} ({type(error).__name__}: {error}); "
            "install it with: pip install 'qcompile[models]'"
        ) from error


def require_timm(purpose: str) -> Any:
    """Import timm, also beside a torchvision whose compiled operators do not load.

    A torchvision of another build than torch (say CUDA beside CPU-only) cannot load its library; its Python part then
    fails on import, because it registers shape functions for operators that do not exist. timm needs only that Python
    part, so the operators' schemas are declared in their place; nothing here ever calls them.

    Raises:
        OptionError: torch or timm is missing.
    """
    torch = require("torch", purpose)
    try:
        return importlib.import_module("timm")
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, operator):
                library.define(f"{operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        _KEPT.append(library)  # the declarations end with their owner
        _forget_failed_imports()
        return require("timm", purpose)
    except ImportError:
        return require("timm", purpose)  # the same failure, as one clear line


def _forget_failed_imports() -> None:
    """Drop what a failed import left behind; half a torchvision would be taken for a whole one."""
    import sys

    for name in list(sys.modules):
        if name.partition(".")[0] in ("timm", "torchvision"):
            del sys.modules[name]
