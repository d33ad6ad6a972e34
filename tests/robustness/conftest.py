"""The fixtures of the operators' tests."""

from ..runtime_ops.conftest import cpu_path, library

__all__ = ["cpu_path", "library"]
