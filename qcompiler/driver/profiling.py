"""Profiles of finished models on the batch that a comparison of their latency uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.driver.comparison import open_batch
from qcompiler.driver.sessions import open_models
from qcompiler.latency.profile import profile_model
from qcompiler.progress import Progress, Silent
from qcompiler.report.metadata import read_layer
from qcompiler.report.profile import ModelProfile, profiled_nodes


def profile_models(
    paths: Sequence[Path],
    images: str | None = None,
    preprocessing: Preprocessing | None = None,
    *,
    batch: int | None = None,
    threads: int = 1,
    runs: int = 9,
    without_library: bool = False,
    progress: Progress | None = None,
) -> tuple[ModelProfile, ...]:
    """Profile every model on one batch.

    Args:
        paths: The models; all read the same inputs.
        images: Where the batch comes from, as calibration data is given; None for synthetic images.
        preprocessing: How image files become values.
        batch: Images per run; None for what the models fix, else 1.
        threads: Threads of ONNX Runtime, 0 for all cores.
        runs: Runs of every model.
        without_library: Run the operators of qcompile on their function bodies.
        progress: Told about the models.

    Raises:
        QcompilerError: A file cannot be used, or the batch or data does not fit the models.
    """
    feed, _ = open_batch(open_models(paths, threads, without_library), images, preprocessing, batch)
    progress = progress or Silent()
    progress.stage("profile", len(paths))
    found = []
    for path in paths:
        library = False if without_library else None
        profile = profile_model(path, feed, threads=threads, runs=runs, library=library)
        nodes = onnx.load(path, load_external_data=False).graph.node
        layers = {node.name: layer for node in nodes if (layer := read_layer(node)) is not None}
        size = len(next(iter(feed.values())))
        found.append(ModelProfile(path, size, threads, runs, profile.run_us, profiled_nodes(profile, layers)))
        progress.advance()
    return tuple(found)
