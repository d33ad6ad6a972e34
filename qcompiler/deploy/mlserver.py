"""A model repository for MLServer: settings, and a small runtime that opens ONNX Runtime with the operator library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import qcompiler
from qcompiler.deploy.layout import Layout
from qcompiler.deploy.options import DeployOptions
from qcompiler.deploy.package import LIBRARY_FILE, MODEL_FILE, ModelPackage
from qcompiler.deploy.rendering import render

# The release that the tests start.
MLSERVER_RELEASE = "1.7.1"
_LARGEST_GRPC_MESSAGE = 64 * 2**20  # bytes; gRPC's own limit of 4 MiB is less than eight images of 224 x 224


def mlserver_layout(package: ModelPackage, options: DeployOptions, version: int) -> Layout:
    """The files of one version, which stands for itself: model, library, runtime and settings in one folder."""
    # MLServer imports runtimes by name into one process: releases of qcompile must not share a name.
    module = "qcompile_runtime_" + "".join(letter if letter.isalnum() else "_" for letter in qcompiler.__version__)
    max_batch = options.max_batch if package.signature.batched else None
    # In a folder of its own: MLServer imports from the one above, and external data may have any name.
    model = f"model/{MODEL_FILE}"
    library = LIBRARY_FILE if package.library else None
    settings = {
        "name": options.name,
        "implementation": f"{module}.QcompileRuntime",
        "platform": "onnxruntime",
        "versions": [str(version)],
        **package.signature.to_dict(),
        "parameters": {
            "version": str(version),
            "extra": {
                "model": model,
                "library": library,
                "instances": options.instances,
                "threads": options.threads,
                "max_batch": max_batch,
            },
        },
    }
    files: dict[str, Any] = {
        **{f"model/{name}": path for name, path in package.beside_model().items()},
        f"{module}.py": Path(__file__).with_name("mlserver_runtime.py"),
        "model-settings.json": _json(settings),
    }
    if package.library is not None:
        files[LIBRARY_FILE] = package.library
    docker = options.target == "docker"
    server = {
        "debug": False,  # otherwise tracebacks go to clients
        # A worker process would answer no faster: ONNX Runtime runs beside Python, and the runtime has its own threads.
        "parallel_workers": 0,
        "host": "0.0.0.0" if docker else "127.0.0.1",
        "http_port": 8080,
        "grpc_port": 8081,
        "metrics_port": 8082,
        "grpc_max_message_length": _LARGEST_GRPC_MESSAGE,
    }
    readme = render(
        "mlserver.md",
        name=options.name,
        docker=docker,
        release=MLSERVER_RELEASE,
        library=library,
        max_batch=max_batch,
        tensors=package.signature.inputs,
        model_file=model,
        runtime=f"{module}.py",
        version=version,
    )
    shared, contract = {"settings.json": _json(server)}, package.signature.to_dict()
    return Layout(shared, {"README.md": readme}, files, contract, model, library)


def _json(values: object) -> str:
    return json.dumps(values, indent=2) + "\n"
