"""Candidates of all layers whose widths are free, fitted side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from qcompiler.allocation.attention_candidates import AttentionCandidate, attention_candidates
from qcompiler.allocation.candidates import LinearCandidates, linear_candidates
from qcompiler.allocation.space import SearchSpace
from qcompiler.driver.layers import fixed_layers
from qcompiler.driver.realise import Realiser
from qcompiler.ir.structure import AttentionBlock, LinearLayer
from qcompiler.ir.weight_files import release
from qcompiler.options import CompileOptions
from qcompiler.progress import Progress


@dataclass(frozen=True)
class Candidates:
    """Candidates of the free layers, linear ones by name and attention blocks by their Softmax."""

    linears: Mapping[str, LinearCandidates]
    attentions: Mapping[str, tuple[AttentionCandidate, ...]]


def fit_candidates(realiser: Realiser, space: SearchSpace, options: CompileOptions, progress: Progress) -> Candidates:
    """Fit all candidates, one layer per core at a time."""
    structure = realiser.structure
    fixed = fixed_layers(structure)
    free = [layer for layer in structure.linears if layer.name not in fixed]
    progress.stage("fit quantizers", len(free) + len(structure.attentions))

    def linear(layer: LinearLayer) -> LinearCandidates:
        found = linear_candidates(
            layer,
            realiser.input_samples(layer),
            realiser.weights[layer.name],
            space,
            norm=realiser.norms.get(layer.name),
            integer=options.groups == "integer",
        )
        release(realiser.weights[layer.name])
        progress.advance()
        return found

    def attention(block: AttentionBlock) -> tuple[AttentionCandidate, ...]:
        found = attention_candidates(block, realiser.attention_samples(block.softmax), space)
        progress.advance()
        return found

    # One task per core: a linear algebra library that starts its own threads in every task only gets in their way.
    with threadpool_limits(1), ThreadPoolExecutor(options.threads or os.cpu_count() or 1) as pool:
        linears = list(pool.map(linear, free))
        attentions = list(pool.map(attention, structure.attentions))
    return Candidates(
        {layer.name: found for layer, found in zip(free, linears, strict=True)},
        {block.softmax: found for block, found in zip(structure.attentions, attentions, strict=True)},
    )
