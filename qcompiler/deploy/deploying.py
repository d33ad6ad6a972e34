"""From a model file to a folder that a server can be started on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import qcompiler
from qcompiler.deploy.docker import MODELS_FOLDER, docker_files
from qcompiler.deploy.layout import Content, Layout
from qcompiler.deploy.mlserver import mlserver_layout
from qcompiler.deploy.options import DeployOptions
from qcompiler.deploy.package import check_opens, collect, digest
from qcompiler.deploy.triton import triton_layout
from qcompiler.deploy.versions import RECORD_FILE, check_contract, check_server, latest_version, record
from qcompiler.deploy.writing import write_tree

_LAYOUTS = {"triton": triton_layout, "mlserver": mlserver_layout}


@dataclass(frozen=True)
class Deployed:
    """What was written.

    Attributes:
        repository: The folder that was asked for.
        model_folder: The model's folder below it.
        name: What clients call the model.
        version: The version that was added.
        server: `triton` or `mlserver`.
        library: Whether the operator library is among the files.
        batched: Whether the server may run requests of any size up to the largest batch.
    """

    repository: Path
    model_folder: Path
    name: str
    version: int
    server: str
    library: bool
    batched: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def deploy_model(path: Path, repository: Path, options: DeployOptions) -> Deployed:
    """Write a model, with all that it needs, as a version in a server's model repository.

    Args:
        path: The model; it is read and never changed.
        repository: The folder. One that exists is extended: by a new model, or by the next version of a model.
        options: For which server, and how it shall run the model.

    Returns:
        What was written.

    Raises:
        ModelFileError: The model cannot be read, or ONNX Runtime cannot load it.
        UnsupportedModelError: An input or output that servers cannot offer.
        RuntimeLibraryError: The model needs the operator library, and it cannot be used.
        OutputPathError: The folder cannot be written, or what it holds does not go with this model; it is unchanged.
    """
    server = options.served_by
    models = repository / MODELS_FOLDER if options.target == "docker" else repository
    folder = models / options.name
    package = collect(path, options.without_library)
    check_server(models, server)
    before = latest_version(folder)
    version = 1 if before is None else before.number + 1
    layout = _LAYOUTS[server](package, options, version)
    if before is not None:
        check_contract(folder, before.contract, layout.contract)
    above = PurePosixPath(models.relative_to(repository))
    inner = above / options.name / str(version)
    files: dict[PurePosixPath, Content] = {above / name: content for name, content in layout.shared.items()}
    files |= {inner.parent / name: content for name, content in layout.model.items()}
    files |= {inner / name: content for name, content in layout.version.items()}
    files[inner / RECORD_FILE] = record(qcompiler.__version__, server, digest(path), layout.contract)
    if options.target == "docker":
        files |= {PurePosixPath(name): text for name, text in docker_files(options).items()}
    write_tree(repository, files, inner, lambda staged: _check_staged(staged / inner, layout))
    return Deployed(
        repository, folder, options.name, version, server, package.library is not None, package.signature.batched
    )


def _check_staged(version: Path, layout: Layout) -> None:
    """The very files that will be served must load: copies can lack what lies beside the original."""
    library = None if layout.registered is None else (version / layout.registered).resolve()
    check_opens(version / layout.opened, library)
