"""Where a finished model's time goes, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from qcompiler.latency.profile import Profile
from qcompiler.report.values import LayerReport


@dataclass(frozen=True)
class ProfiledNode:
    """One node of a model as it ran.

    Attributes:
        name: Its name; that of the layer where it is a quantized one.
        op: Its operator.
        us: Median over the runs, microseconds.
        kind: Kind of the layer, e.g. ``fc1``; None where the model's metadata names no layer like this.
        widths: Widths of the layer, e.g. ``w4a4``, or ``a4/5`` for attention; None likewise.
    """

    name: str
    op: str
    us: float
    kind: str | None = None
    widths: str | None = None


@dataclass(frozen=True)
class OperatorTime:
    """All nodes of one operator: how many there are, and their time, microseconds."""

    op: str
    nodes: int
    us: float


@dataclass(frozen=True)
class ModelProfile:
    """Times of one model.

    Attributes:
        path: Its file.
        batch: Images per run.
        threads: Threads of the session.
        runs: Runs that the times are medians of.
        run_us: Time of a whole run under the profiler, microseconds.
        nodes: In the order in which they ran.
    """

    path: Path
    batch: int
    threads: int
    runs: int
    run_us: float
    nodes: tuple[ProfiledNode, ...]

    @property
    def total_us(self) -> float:
        """Time of all nodes, microseconds: what shares are shares of."""
        return sum(node.us for node in self.nodes)

    def operators(self) -> tuple[OperatorTime, ...]:
        """Times by operator, the longest first."""
        found: dict[str, OperatorTime] = {}
        for node in self.nodes:
            known = found.get(node.op, OperatorTime(node.op, 0, 0.0))
            found[node.op] = OperatorTime(node.op, known.nodes + 1, known.us + node.us)
        return tuple(sorted(found.values(), key=lambda item: (-item.us, item.op)))

    def to_dict(self) -> dict[str, object]:
        """For ``--json``."""
        total = self.total_us or 1.0
        return {
            "path": str(self.path),
            "batch": self.batch,
            "threads": self.threads,
            "runs": self.runs,
            "run_us": self.run_us,
            "total_us": self.total_us,
            "operators": [{**asdict(item), "share": item.us / total} for item in self.operators()],
            "nodes": [{**asdict(node), "share": node.us / total} for node in self.nodes],
        }


def profiled_nodes(profile: Profile, layers: Mapping[str, LayerReport]) -> tuple[ProfiledNode, ...]:
    """Nodes with what the model's metadata knows of their layers, by name."""
    found = []
    for node in profile.nodes:
        layer = layers.get(node.name)
        kind = None if layer is None else layer.kind
        found.append(ProfiledNode(node.name, node.op, node.us, kind, None if layer is None else _widths(layer)))
    return tuple(found)


def _widths(layer: LayerReport) -> str:
    if layer.weight_bits is not None:
        return f"w{layer.weight_bits}a{layer.activation_bits}"
    values = layer.value_bits
    return f"a{layer.activation_bits}" + (f"/{values}" if values not in (None, layer.activation_bits) else "")
