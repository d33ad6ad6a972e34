"""What calibration is asked about each quantizer site."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from qcompiler.calibration.statistics import Request
from qcompiler.quant.groups import CHANNELS, ROWS
from qcompiler.quant.sites import Role, Site
from qcompiler.relevance.suffix import Operand


def operands(model: onnx.ModelProto, sites: Iterable[Site]) -> dict[str, Operand]:
    """The operand of every site, by the site's name."""
    nodes = {node.name: node for node in model.graph.node}
    return {site.name: Operand(site.node, site.index, nodes[site.node].input[site.index]) for site in sites}


def requests(sites: Sequence[Site], operand: dict[str, Operand]) -> tuple[Request, ...]:
    """One request per tensor; linear layers also need the ranges of their normalised inputs."""
    wanted: dict[str, Request] = {}
    for site in sites:
        tensor = operand[site.name].tensor
        linear = site.role is Role.INPUT
        wanted[tensor] = Request(tensor, axes=(CHANNELS, ROWS) if linear else (), normalize=linear)
    return tuple(wanted.values())
