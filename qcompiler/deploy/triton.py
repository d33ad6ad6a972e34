"""A model repository for NVIDIA's Triton Inference Server, ONNX Runtime backend."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import qcompiler
from qcompiler.deploy.layout import Layout
from qcompiler.deploy.options import DeployOptions
from qcompiler.deploy.package import LIBRARY_FILE, MODEL_FILE, ModelPackage, digest
from qcompiler.deploy.rendering import render
from qcompiler.deploy.signature import TensorSignature

TRITON_RELEASE = "26.06"


def triton_layout(package: ModelPackage, options: DeployOptions, version: int) -> Layout:
    """The files of one version; `config.pbtxt` and the library belong to all versions of a model.

    Triton has one configuration per model and takes the library's path literally, so versions share one library.
    """
    batched = package.signature.batched
    values: dict[str, Any] = {
        "qcompile": qcompiler.__version__,
        "name": options.name,
        "model_file": MODEL_FILE,
        "max_batch": options.max_batch if batched else 0,
        "inputs": [_dims(tensor, batched) for tensor in package.signature.inputs],
        "outputs": [_dims(tensor, batched) for tensor in package.signature.outputs],
        "instances": options.instances,
        "threads": options.threads,
        "library": None,
        "mount": options.mount,
        "release": TRITON_RELEASE,
        "docker": options.target == "docker",
        "tensors": package.signature.inputs,
        "version": version,
    }
    model: dict[str, Any] = {}
    if package.library is not None:
        model[LIBRARY_FILE] = package.library
        values["library"] = str(PurePosixPath(options.mount) / options.name / LIBRARY_FILE)
    model["config.pbtxt"] = render("config.pbtxt", **values)
    model["README.md"] = render("triton.md", **values)
    contract = {
        **package.signature.to_dict(),
        "operator library": None if package.library is None else digest(package.library),
        "--max-batch": values["max_batch"],
        "--instances": options.instances,
        "--threads": options.threads,
        "--mount": options.mount,
    }
    library = f"../{LIBRARY_FILE}" if package.library else None
    return Layout({}, model, package.beside_model(), contract, MODEL_FILE, library)


def _dims(tensor: TensorSignature, batched: bool) -> dict[str, Any]:
    """A tensor as the configuration has it: without the batch, and never without an axis."""
    dims = list(tensor.shape[1:] if batched else tensor.shape)
    return {"name": tensor.name, "datatype": tensor.datatype, "dims": dims or [1], "scalar": not dims}
