"""Run by ``matrix`` with other versions of the packages: a compiled model both ways, and a compilation.

    python probe.py FOLDER OUT.npz

FOLDER holds ``float.onnx``, ``calib.npz`` and ``compiled.onnx``. Stands alone: the environment has no tests.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path


def main(folder: Path, out: Path) -> None:
    """Writes outputs under the names `library`, `bodies` and `compiled`, and the versions."""
    import numpy as np
    import onnx
    import onnxruntime

    from qcompiler import CompileOptions, compile_model, runtime_ops

    with np.load(folder / "calib.npz") as file:
        ((name, images),) = file.items()
    feed = {name: images[:8]}
    found = {
        way: runtime_ops.session(folder / "compiled.onnx", threads=1, library=way == "library").run(None, feed)[0]
        for way in ("library", "bodies")
    }
    options = CompileOptions(bits="w8a8", effort="low", images=16, probe_images=2, trial_images=4, threads=1)
    result = compile_model(folder / "float.onnx", options, folder / "calib.npz", output=out.with_suffix(".onnx"))
    session = runtime_ops.session(out.with_suffix(".onnx"), threads=1, library=True)
    found["compiled"] = session.run(None, feed)[0]
    versions = {
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "onnx": onnx.__version__,
        "numpy": np.__version__,
        "widths": result.report.widths,
    }
    np.savez(out, versions=np.array(json.dumps(versions)), **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
