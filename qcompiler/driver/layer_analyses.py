"""What relevance and sensitivity say of every layer, as the values of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qcompiler.allocation.loss_table import LossTable
from qcompiler.ir.structure import Structure
from qcompiler.relevance.lrp import RelevanceResult
from qcompiler.report.search import LayerAnalysis


def layer_analyses(
    structure: Structure,
    order: Sequence[str],
    relevance: RelevanceResult | None,
    table: LossTable | None,
    sqnr: Mapping[str, float] | None = None,
) -> tuple[LayerAnalysis, ...]:
    """One entry per layer, in graph order.

    Args:
        structure: What was found in the canonical graph.
        order: Names of the canonical graph's nodes, in order.
        relevance: Relevance of the layers, if it was measured.
        table: Losses of the candidates, if there are any.
        sqnr: Signal to quantization noise in dB, by the name of the layer (of the Softmax for an attention block).
    """
    position = {name: index for index, name in enumerate(order)}
    scores = relevance.scores if relevance is not None else {}
    rows = [
        (position[layer.name], layer.name, layer.kind, layer.name, scores.get(layer.name))
        for layer in structure.linears
    ]
    for block in structure.attentions:
        parts = [scores[name] for name in (block.scores, block.mixing) if name in scores]
        rows.append((position[block.softmax], block.name, "attention", block.softmax, sum(parts) if parts else None))
    return tuple(
        LayerAnalysis(name, kind, depth, share, _least_losses(table, key), (sqnr or {}).get(key))
        for depth, (_, name, kind, key, share) in enumerate(sorted(rows))
    )


def conservation(relevance: RelevanceResult | None) -> dict[str, float]:
    """How much of the relevance at the prediction arrives at the tokens."""
    tokens = relevance.tokens if relevance is not None else None
    return {} if tokens is None else {"tokens mean": tokens.mean, "tokens spread": tokens.spread}


def _least_losses(table: LossTable | None, name: str) -> dict[str, float]:
    """Least predicted loss of each width of one layer: ``w4``, ``a4``, and ``qk4``, ``v4`` of an attention block."""
    found: dict[str, float] = {}
    if table is None:
        return found

    def note(key: str, loss: float) -> None:
        found[key] = min(loss, found.get(key, loss))

    if name in table.linears:
        losses, items = table.linear_losses[name], table.linears[name]
        for weight, loss in zip(items.weights, losses.weights, strict=True):
            note(f"w{weight.bits}", loss)
        for item, loss in zip(items.inputs, losses.inputs, strict=True):
            note(f"a{item.bits}", loss)
    if name in table.attentions:
        attention = table.attention_losses[name]
        for candidate, left, right in zip(table.attentions[name], attention.scores, attention.mixing, strict=True):
            note(f"qk{candidate.choice.qk_bits}", left)
            note(f"v{candidate.choice.value_bits}", right)
    return found
