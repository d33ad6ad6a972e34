"""Olive's package configuration with qcompile's pass in it.

python -m qcompiler.integrations.olive_package olive_package.json
olive run --config workflow.json --package-config olive_package.json
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_PASS = {
    "module_path": "qcompiler.integrations.olive.QCompile",
    "supported_providers": ["CPUExecutionProvider"],
    "supported_accelerators": ["cpu"],
    "supported_precisions": ["int4", "int8"],
    "supported_algorithms": [],
    "supported_quantization_encodings": [],
    "dataset": "dataset_optional",
}


def package_config() -> dict[str, Any]:
    """Olive's own passes and `QCompile`, as `olive.run(..., package_config=...)` takes it.

    Raises:
        ModuleNotFoundError: Olive is not installed (`pip install olive-ai`).
    """
    found = find_spec("olive")  # not imported: that takes many seconds
    if found is None or found.origin is None:
        raise ModuleNotFoundError("Microsoft Olive is not installed; install it with: pip install olive-ai")
    config: dict[str, Any] = json.loads(Path(found.origin).with_name("olive_config.json").read_text("utf-8"))
    config["passes"]["QCompile"] = _PASS
    return config


def main(words: list[str]) -> int:
    """Write the configuration to the file that is named, or to stdout; returns the exit code."""
    text = json.dumps(package_config(), indent=2)
    if words:
        Path(words[0]).write_text(text + "\n", "utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
