"""Where a model's time goes, by node, as ONNX Runtime's own profiler sees it."""

from __future__ import annotations

import json
import tempfile
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import onnxruntime

from qcompiler import runtime_ops
from qcompiler.evaluation.runs import Feed

_NODE_SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class NodeTime:
    """One node as it ran; nodes that ONNX Runtime made by fusing others have names of its own.

    Attributes:
        name: Name of the node.
        op: Its operator.
        us: Median over the runs of the model, microseconds.
    """

    name: str
    op: str
    us: float


@dataclass(frozen=True)
class Profile:
    """Times of one model.

    Attributes:
        nodes: In the order in which they ran.
        run_us: Median time of a whole run, microseconds; more than the nodes together, and the profiler's own cost.
    """

    nodes: tuple[NodeTime, ...]
    run_us: float


def profile_model(
    model: str | Path | bytes, feed: Feed, *, threads: int = 1, runs: int = 9, library: bool | None = None
) -> Profile:
    """Run a model under the profiler; its file is gone afterwards.

    Args:
        model: A file, or a serialized model.
        feed: Input of every run.
        threads: Threads of the session; 0 for all cores.
        runs: How often it runs; the first run, which is not counted, comes on top.
        library: As for :func:`qcompiler.runtime_ops.session`.
    """
    # The options of an ordinary session: what is profiled is what runs. Only the library has to be registered again.
    options = runtime_ops.session(model, threads=threads or None, library=library).get_session_options()
    if library is not False:
        with suppress(runtime_ops.LibraryNotFoundError):
            options.register_custom_ops_library(str(runtime_ops.library_path()))
    with tempfile.TemporaryDirectory(prefix="qcompile.profile.") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        source = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        try:
            for _ in range(runs + 1):
                session.run(None, dict(feed))
        finally:
            file = session.end_profiling()
        return read_profile(json.loads(Path(file).read_text("utf-8")))


def read_profile(events: Sequence[Mapping[str, Any]]) -> Profile:
    """Medians over the runs that the profiler wrote down, without the first one.

    A mean would be that of the few runs that another program interrupted.

    Args:
        events: Its events; a run is an event ``model_run``, and a node an event of category ``Node``, both with begin
            ``ts`` and duration ``dur`` in microseconds.
    """
    runs = sorted((event["ts"], event["dur"]) for event in events if event["name"] == "model_run")
    starts, skipped = [begin for begin, _ in runs], min(1, len(runs) - 1)
    times: dict[tuple[str, str, str], list[float]] = {}
    for event in sorted(events, key=lambda event: event["ts"]):
        run = bisect_right(starts, event["ts"]) - 1 - skipped
        if run < 0 or event.get("cat") != "Node" or not event["name"].endswith(_NODE_SUFFIX):
            continue
        name, arguments = event["name"].removesuffix(_NODE_SUFFIX), event["args"]
        # The index tells nodes apart whose names were lost; a node of a loop's body runs several times.
        key = (name, arguments["op_name"], str(arguments.get("node_index", "")))
        times.setdefault(key, [0.0] * (len(runs) - skipped))[run] += event["dur"]
    nodes = tuple(NodeTime(name, op, median(found)) for (name, op, _), found in times.items())
    return Profile(nodes, median(duration for _, duration in runs[skipped:]) if runs else 0.0)
