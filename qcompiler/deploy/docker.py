"""An image that holds a server and its model repository."""

from __future__ import annotations

import onnxruntime

from qcompiler.deploy.mlserver import MLSERVER_RELEASE
from qcompiler.deploy.options import DeployOptions
from qcompiler.deploy.rendering import render
from qcompiler.deploy.triton import TRITON_RELEASE

MODELS_FOLDER = "models"
_PORTS = {"triton": (8000, 8001, 8002), "mlserver": (8080, 8081, 8082)}


def docker_files(options: DeployOptions) -> dict[str, str]:
    """Dockerfile and compose file, by name; they lie beside the folder of models and are the same for every model."""
    server = options.served_by
    values = {
        "mount": options.mount,
        "ports": _PORTS[server],
        "models": MODELS_FOLDER,
        "mlserver": MLSERVER_RELEASE,
        "triton": TRITON_RELEASE,
        # The one that opened the model here.
        "onnxruntime": onnxruntime.__version__,
    }
    return {"Dockerfile": render(f"Dockerfile.{server}", **values), "compose.yaml": render("compose.yaml", **values)}
