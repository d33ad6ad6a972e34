"""The contract of a pass, and the runner that keeps the record of what each pass did and refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from qcompiler.ir.shapes import annotate
from qcompiler.ir.verifier import verify_structure


@dataclass(frozen=True)
class Refusal:
    """A place that a pass looked at and left alone.

    Attributes:
        node: name of the node.
        reason: why, in words.
        value: the value at fault, as text; empty when there is none.
    """

    node: str
    reason: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}" + (f" ({self.value})" if self.value else "")


@dataclass(frozen=True)
class PassReport:
    """What one pass did to a graph.

    Attributes:
        name: name of the pass.
        applied: number of places changed.
        refusals: places left alone, with the reason.
        nodes_before: number of nodes before.
        nodes_after: number of nodes after, without nodes that nothing reads.
    """

    name: str
    applied: int
    refusals: tuple[Refusal, ...]
    nodes_before: int
    nodes_after: int


class Pass(ABC):
    """One rewrite of a graph.

    What a pass needs comes through its constructor as plain values. `requires` and `ensures` raise
    `VerificationError` when the graph is not what the pass expects, or not what it promises.

    Attributes:
        applied: number of places changed so far.
        refusals: places left alone so far.
    """

    def __init__(self) -> None:
        self.applied = 0
        self.refusals: list[Refusal] = []

    @property
    def name(self) -> str:
        """The name of the pass: that of its module."""
        return type(self).__module__.rsplit(".", 1)[-1]

    def requires(self, graph: gs.Graph) -> None:  # noqa: B027 - most passes accept every graph
        """Checks what the pass needs of the graph."""

    @abstractmethod
    def apply(self, graph: gs.Graph) -> bool:
        """Edits the graph in place; the runner removes what nothing reads and sorts the nodes.

        Returns:
            Whether anything changed.
        """

    def ensures(self, graph: gs.Graph) -> None:  # noqa: B027 - most passes only promise an equal graph
        """Checks what the pass promises about the graph."""

    def refuse(self, node: gs.Node, reason: str, value: object = "") -> None:
        """Records a place that the pass leaves alone."""
        self.refusals.append(Refusal(node.name, reason, str(value)))


def run_passes(graph: gs.Graph, passes: Iterable[Pass], verify_each: bool = False) -> list[PassReport]:
    """Runs passes in order on a graph, in place.

    Args:
        graph: the graph; afterwards it is sorted, without unread nodes, and its shapes are annotated.
        passes: pass instances, used once.
        verify_each: also check the wiring of the graph after every pass.

    Returns:
        One report per pass, in order.

    Raises:
        VerificationError: a pass broke its contract.
    """
    reports = []
    for item in passes:
        before = len(graph.nodes)
        item.requires(graph)
        if item.apply(graph):
            graph.cleanup().toposort()
            annotate(graph)
        item.ensures(graph)
        if verify_each:
            verify_structure(graph)
        reports.append(PassReport(item.name, item.applied, tuple(item.refusals), before, len(graph.nodes)))
    return reports
