"""A search with known content, and reports of many layers."""

from __future__ import annotations

from dataclasses import replace

from qcompiler.report.search import FoldedNorm, LayerAnalysis, PlanPoint, SearchReport
from qcompiler.report.values import CompileReport, LayerReport

from .samples import LAYERS, LONG_NAME, REPORT

SEARCH = SearchReport(
    points=(
        PlanPoint("uniform w2a2", 0.0625, 0.2, 1_000_000, 2.5, False),
        PlanPoint("uniform w4a4", 0.25, 0.1, 2_000_000, 0.3, False),
        PlanPoint("uniform w8a8", 1.0, 0.05, 4_000_000, 0.001, False),
        PlanPoint("program", 0.249, 0.12, 2_100_000, 0.15, True),
        PlanPoint("swap 1", 0.248, 0.12, 2_100_000, 0.16, False),
        PlanPoint("swap 2", 0.2485, 0.12, 2_050_000, 0.12, True),
        PlanPoint("swap 3", 0.2495, 0.12, 2_050_000, 0.125, False),
    ),
    layers=(
        LayerAnalysis("patch[proj]", "patch_embed", 0, 0.125, {"w8": 1e-5, "a8": 2e-5}, 40.5),
        LayerAnalysis(LONG_NAME, "fc1", 1, 0.5, {"w3": 0.5, "w4": 0.0421, "a4": 0.0177}, 13.25),
        LayerAnalysis("blocks.0.attn", "attention", 2, None, {"a4": 0.003}, None),
        LayerAnalysis("blocks.0.float", "other", 3, 0.375, {}, None),
    ),
    norms=(FoldedNorm("blocks.0.norm1", (0.0, 0.5, 1.0, 2.0, 64.0), (0.0, 0.9, 1.0, 1.1, 4.0)),),
    budget=0.25,
    lrp_rule="zplus",
    conservation={"tokens mean": 0.97},
)


def many_layers(blocks: int, prefix: str = "") -> tuple[CompileReport, SearchReport]:
    """A report of ``5 * blocks`` layers with everything that can be known about them, and 20 plans close together."""
    kinds = ("qkv", "attention", "proj", "fc1", "fc2")
    layers: list[LayerReport] = []
    analyses = []
    for depth in range(5 * blocks):
        kind = kinds[depth % 5]
        name = f"{prefix}blocks.{depth // 5}.{kind}"
        bits, groups = 2 + depth % 7, (16, 8, 16, 1) if kind == "attention" else (16,)
        weights = None if kind == "attention" else bits
        layers.append(replace(LAYERS[1], name=name, kind=kind, weight_bits=weights, activation_bits=8, groups=groups))
        sensitivity = {f"{side}{width}": 4.0 ** -(width + depth % 3) for side in "wa" for width in (2, 3, 4, 5, 6, 8)}
        analyses.append(LayerAnalysis(name, kind, depth, 1 / (5 * blocks), sensitivity, 10.0 + depth % 9))
    points = [
        PlanPoint(f"uniform w{b}a{b}", b * b / 64, 0.1, 10**6 * b, 10.0 ** (2 - b), False) for b in (2, 3, 4, 6, 8)
    ]
    points += [
        PlanPoint(f"swap {i}", 0.25 - (i * 7 % 11) / 1000, 0.1, 10**6, 0.02 - i / 5000, i % 3 == 0) for i in range(20)
    ]
    norms = [FoldedNorm(f"{prefix}blocks.{i}.norm", (0.1, 1.0, 9.0 + i), (0.5, 1.0, 2.0)) for i in range(2 * blocks)]
    search = replace(SEARCH, points=tuple(points), layers=tuple(analyses), norms=tuple(norms))
    return replace(REPORT, layers=tuple(layers)), search
