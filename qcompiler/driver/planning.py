"""From statistics to a quantization plan: group counts by measured discrepancy, then integer weights."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import onnx
from threadpoolctl import threadpool_limits

from qcompiler.allocation.group_counts import GroupChoice, choose_group_counts
from qcompiler.allocation.widths import LayerProduct
from qcompiler.calibration.inputs import Feed
from qcompiler.calibration.statistics import Statistics
from qcompiler.driver.sites import Candidate, fit_candidates
from qcompiler.errors import BudgetError
from qcompiler.ir.structure import Structure
from qcompiler.options import CompileOptions
from qcompiler.progress import Progress
from qcompiler.quant.groups import F32, fake_quantize
from qcompiler.quant.plan import AttentionPlan, LinearPlan, QuantPlan, Widths
from qcompiler.quant.planner import linear_weight
from qcompiler.quant.sites import Role, Site, all_sites, attention_products, linear_product
from qcompiler.relevance.discrepancy import DiscrepancyProbe
from qcompiler.relevance.suffix import Operand

# Patch embedding and head run at 8 bits by default, where the number of groups hardly matters.
FIXED_GROUPS = 8
FIXED_KINDS = ("patch_embed", "head")


@dataclass(frozen=True)
class Planned:
    """A plan, and the bookkeeping of every site in it."""

    plan: QuantPlan
    bookkeeping: Mapping[str, int]


def fixed_layers(structure: Structure) -> frozenset[str]:
    """Layers whose widths ``--first-last-bits`` decides: patch embedding and head."""
    return frozenset(layer.name for layer in structure.linears if layer.kind in FIXED_KINDS)


def free_products(structure: Structure) -> list[LayerProduct]:
    """Products whose widths the budget decides."""
    fixed = fixed_layers(structure)
    products = [
        LayerProduct(layer.name, linear_product(layer), weights=True)
        for layer in structure.linears
        if layer.name not in fixed
    ]
    for block in structure.attentions:
        products += [LayerProduct(block.softmax, shape, weights=False) for shape in attention_products(block)]
    return products


class Planner:
    """Makes the plan of one model.

    Args:
        model: Canonical float model.
        structure: What was found in it.
        statistics: Answers to the requests of :mod:`qcompiler.driver.sites`.
        operands: Operand of every site.
        options: Options of the compilation.
        progress: Told about every site.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        structure: Structure,
        statistics: Statistics,
        operands: Mapping[str, Operand],
        options: CompileOptions,
        progress: Progress,
    ) -> None:
        self._model = model
        self._structure = structure
        self._statistics = statistics
        self._operands = operands
        self._options = options
        self._progress = progress
        self._sites = all_sites(structure)
        self._fixed = fixed_layers(structure)
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._weights: dict[str, F32] = {
            layer.name: onnx.numpy_helper.to_array(constants[layer.weight]) for layer in structure.linears
        }
        self._workers = options.threads or os.cpu_count() or 1

    def plan(self, widths: Widths, probes: Sequence[Feed]) -> Planned:
        """Fit, measure and choose.

        Args:
            widths: Widths of every layer that is not fixed.
            probes: Feeds that group counts are measured on.

        Raises:
            BudgetError: The bookkeeping exceeds the overhead budget whatever is chosen.
        """
        # One task per core: a linear algebra library that starts its own threads in every task only gets in their way.
        with threadpool_limits(1):
            return self._plan(widths, probes)

    def _plan(self, widths: Widths, probes: Sequence[Feed]) -> Planned:
        self._progress.stage("fit quantizers", len(self._sites))
        with ThreadPoolExecutor(self._workers) as pool:
            fitted = pool.map(lambda site: self._fit(site, widths), self._sites)
            candidates = dict(zip((site.name for site in self._sites), fitted, strict=True))
        chosen = self._choose(candidates, widths, probes)
        self._progress.stage("quantize weights", len(self._structure.linears))
        with ThreadPoolExecutor(self._workers) as pool:
            linears = list(pool.map(lambda name: self._linear(name, chosen, widths), self._weights))
        attentions = [self._attention(block.softmax, chosen) for block in self._structure.attentions]
        plan = QuantPlan({item.name: item for item in linears}, {item.name: item for item in attentions})
        return Planned(plan, {name: candidate.bookkeeping for name, candidate in chosen.items()})

    def _bits(self, layer: str, widths: Widths) -> Widths:
        fixed = self._options.first_last_bits
        return Widths(fixed, fixed) if layer in self._fixed else widths

    def _fit(self, site: Site, widths: Widths) -> list[Candidate]:
        counts = (FIXED_GROUPS,) if site.layer in self._fixed else self._options.group_candidates
        found = fit_candidates(
            site,
            self._operands[site.name].tensor,
            self._statistics,
            self._weights.get(site.layer) if site.role is Role.INPUT else None,
            self._bits(site.layer, widths).activation,
            counts,
            integer=self._options.groups == "integer",
        )
        self._progress.advance()
        return found

    def _choose(
        self, candidates: Mapping[str, list[Candidate]], widths: Widths, probes: Sequence[Feed]
    ) -> dict[str, Candidate]:
        chosen = {name: found[0] for name, found in candidates.items()}
        free = [site for site in self._sites if site.layer not in self._fixed]
        open_sites = [site for site in free if len(candidates[site.name]) > 1]
        self._progress.stage("measure group counts", len(open_sites))
        operands = [self._operands[site.name] for site in open_sites]
        probe = DiscrepancyProbe(self._model, probes, operands, self._options.threads)

        def measure(site: Site) -> list[float]:
            simulations = [candidate.simulate for candidate in candidates[site.name]]
            found = probe.measure(self._operands[site.name], simulations)
            self._progress.advance()
            return found

        with ThreadPoolExecutor(self._workers) as pool:
            measured = dict(zip((site.name for site in open_sites), pool.map(measure, open_sites), strict=True))
        choices = {
            site.name: [
                GroupChoice(candidate.table.count, discrepancy, candidate.bookkeeping)
                for candidate, discrepancy in zip(
                    candidates[site.name], measured.get(site.name, [0.0]), strict=True
                )
            ]
            for site in free
        }
        products = sum(product.bops(widths) for product in free_products(self._structure))
        least = sum(min(choice.bookkeeping for choice in found) for found in choices.values())
        if least > self._options.overhead_budget * products:
            needed = math.ceil(least / products * 1e4) / 1e4
            raise BudgetError(
                f"no grouping meets --overhead-budget {self._options.overhead_budget:g}: the cheapest bookkeeping is "
                f"{least / products:.4f} of the products; give --overhead-budget {needed:g}"
            )
        taken = choose_group_counts(choices, int(self._options.overhead_budget * products))
        for name, choice in taken.items():
            chosen[name] = candidates[name][choices[name].index(choice)]
        return chosen

    def _linear(self, name: str, chosen: Mapping[str, Candidate], widths: Widths) -> LinearPlan:
        site = f"{name}:{Role.INPUT.value}"
        tensor = self._operands[site].tensor
        moment = self._statistics.get(tensor, "moment")
        inputs = self._statistics.get(tensor, "sample")
        quantized = fake_quantize(inputs, chosen[site].table)
        sample = (inputs.reshape(-1, inputs.shape[-1]), quantized.reshape(-1, inputs.shape[-1]))
        rows = self._structure.linear(name).rows * self._statistics.images
        weight = linear_weight(self._weights[name], self._bits(name, widths).weight, moment, rows, sample)
        self._progress.advance()
        return LinearPlan(name, weight, chosen[site].table)

    def _attention(self, layer: str, chosen: Mapping[str, Candidate]) -> AttentionPlan:
        query, key, value, probability = (
            chosen[f"{layer}:{role.value}"] for role in (Role.QUERY, Role.KEY, Role.VALUE, Role.PROBABILITY)
        )
        levels = probability.levels
        assert levels is not None
        return AttentionPlan(layer, query.table, key.table, value.table, probability.table, levels)
