"""The losses of all candidates of a model: what the integer program minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from qcompiler.allocation.attention_candidates import AttentionCandidate
from qcompiler.allocation.candidates import LinearCandidates
from qcompiler.allocation.program import Choice
from qcompiler.quant.choices import AttentionChoice, LinearChoice

Weigh = Callable[[str, str, int], float]


@dataclass(frozen=True)
class LinearLosses:
    """Predicted loss of every input candidate and of every weight candidate of a linear layer."""

    inputs: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class AttentionLosses:
    """Predicted loss of every candidate of an attention block, of either product."""

    scores: tuple[float, ...]
    mixing: tuple[float, ...]


@dataclass(frozen=True)
class LossTable:
    """Candidates and predicted losses of all layers whose widths are free, by the layer's name.

    Attributes:
        linears: Candidates of the linear layers.
        linear_losses: Their losses.
        attentions: Candidates of the attention blocks, by the Softmax.
        attention_losses: Their losses.
    """

    linears: Mapping[str, LinearCandidates]
    linear_losses: Mapping[str, LinearLosses]
    attentions: Mapping[str, tuple[AttentionCandidate, ...]]
    attention_losses: Mapping[str, AttentionLosses]

    def with_shares(self, shares: Mapping[str, float]) -> LossTable:
        """The table with the losses of weights times a factor for each layer; layers without one keep theirs."""
        scaled = {
            name: replace(found, weights=tuple(shares.get(name, 1.0) * loss for loss in found.weights))
            for name, found in self.linear_losses.items()
        }
        return replace(self, linear_losses=scaled)

    def of(self, name: str, decision: LinearChoice | AttentionChoice) -> float:
        """Predicted loss of one layer alone under a decision, unweighted."""
        options, decisions = replace(
            self,
            linears={name: self.linears[name]} if name in self.linears else {},
            attentions={name: self.attentions[name]} if name in self.attentions else {},
        ).options(lambda *_: 1.0)
        return options[name][list(decisions[name]).index(decision)].cost

    def options(
        self, weigh: Weigh
    ) -> tuple[dict[str, list[Choice]], dict[str, Sequence[LinearChoice | AttentionChoice]]]:
        """Options of the integer program, and the decision behind each.

        Args:
            weigh: Factor of the losses of one side of a layer at a width, by the layer's name, the side (``input`` or
                ``weight`` of a linear layer, ``scores`` or ``mixing`` of an attention block) and the width.
        """
        options: dict[str, list[Choice]] = {}
        decisions: dict[str, Sequence[LinearChoice | AttentionChoice]] = {}
        for name, linear in self.linears.items():
            losses = self.linear_losses[name]
            inputs = [
                weigh(name, "input", item.bits) * loss for item, loss in zip(linear.inputs, losses.inputs, strict=True)
            ]
            weights = [
                weigh(name, "weight", item.bits) * loss
                for item, loss in zip(linear.weights, losses.weights, strict=True)
            ]
            pairs = list(product(range(len(linear.weights)), range(len(linear.inputs))))
            options[name] = []
            for i, j in pairs:
                weight, found = linear.weights[i], linear.inputs[j]
                bookkeeping = weight.bookkeeping + found.bookkeeping
                options[name].append(
                    Choice(weights[i] + inputs[j], linear.products(weight, found), bookkeeping, weight.bytes)
                )
            decisions[name] = [linear.choice(linear.weights[i], linear.inputs[j]) for i, j in pairs]
        for name, candidates in self.attentions.items():
            found_losses = self.attention_losses[name]
            options[name] = []
            for item, left, right in zip(candidates, found_losses.scores, found_losses.mixing, strict=True):
                scores = weigh(name, "scores", item.choice.qk_bits) * left
                mixing = weigh(name, "mixing", item.choice.value_bits) * right
                options[name].append(Choice(scores + mixing, item.products, item.bookkeeping, 0))
            decisions[name] = [item.choice for item in candidates]
        return options, decisions
