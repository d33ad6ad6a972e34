"""A plan with everything that is known about how it was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcompiler.driver.layer_analyses import conservation, layer_analyses
from qcompiler.driver.layers import LayerFacts
from qcompiler.driver.realise import Planned
from qcompiler.driver.search import Found
from qcompiler.ir.structure import Structure
from qcompiler.options import CompileOptions
from qcompiler.quant.choices import Choices
from qcompiler.relevance.lrp import RelevanceResult
from qcompiler.report.search import FoldedNorm, SearchReport


@dataclass(frozen=True)
class Searched:
    """The outcome of a search.

    Attributes:
        choices: What was decided.
        planned: The plan made of it.
        found: How it was found; None where it came from a file.
        relevance: Relevance of the layers; None where the method does not ask for it.
        sqnr: Signal to quantization noise of the layers' outputs under the plan, dB, by name.
        norms: Channels of the folded normalisations.
    """

    choices: Choices
    planned: Planned
    found: Found | None
    relevance: RelevanceResult | None
    sqnr: Mapping[str, float]
    norms: tuple[FoldedNorm, ...]

    def loss(self) -> float | None:
        """Measured loss of the plan; None where nothing was tried out."""
        kept = [point.loss for point in self.found.points if point.kept] if self.found else []
        return kept[-1] if kept else None

    def facts(self) -> LayerFacts:
        """What the report says of single layers."""
        sensitivity = {}
        if self.found is not None:
            table = self.found.losses
            sensitivity = {name: table.of(name, self.choices.linears[name]) for name in table.linears}
            sensitivity.update({name: table.of(name, self.choices.attentions[name]) for name in table.attentions})
        scores = self.relevance.scores if self.relevance is not None else {}
        return LayerFacts(self.planned.plan, self.planned.bookkeeping, scores, sensitivity)

    def report(self, structure: Structure, order: Sequence[str], options: CompileOptions) -> SearchReport:
        """Everything that was measured, for the pages of the report.

        Args:
            structure: What was found in the canonical graph.
            order: Names of the canonical graph's nodes, in order.
            options: Options of the compilation.
        """
        table = self.found.losses if self.found is not None else None
        return SearchReport(
            points=self.found.points if self.found is not None else (),
            layers=layer_analyses(structure, order, self.relevance, table, self.sqnr),
            norms=self.norms,
            budget=options.product_budget,
            lrp_rule=self.relevance.rule if self.relevance is not None else None,
            conservation=conservation(self.relevance),
        )
