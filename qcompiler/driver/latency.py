"""The latency budget: times of candidates for the search, and of the plan that it finds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import onnx

from qcompiler.allocation.program import TIME_TOLERANCE, Choice, Limits
from qcompiler.calibration.inputs import Feed
from qcompiler.calibration.statistics import model_hash
from qcompiler.driver.canonical import model_inputs
from qcompiler.driver.fitting import Candidates
from qcompiler.driver.layers import fixed_layers
from qcompiler.driver.realise import Realiser
from qcompiler.driver.runtime import quantized_session
from qcompiler.errors import BudgetError
from qcompiler.evaluation.latency import measure_latency
from qcompiler.evaluation.runs import first_output
from qcompiler.ir.structure import Structure
from qcompiler.latency.cache import LatencyCache
from qcompiler.latency.costs import MeasuredCosts
from qcompiler.latency.kinds import Kind, attention_kind, linear_kind
from qcompiler.latency.machine import this_machine
from qcompiler.latency.prediction import TimePrediction, TimeShares
from qcompiler.latency.shapes import AttentionShape, LinearShape, Shape, attention_shape, linear_shapes
from qcompiler.latency.widths import compare_widths
from qcompiler.progress import Progress
from qcompiler.quant.choices import AttentionChoice, LinearChoice
from qcompiler.quant.fit_inputs import fit_input
from qcompiler.quant.plan import QuantPlan
from qcompiler.report.latency import LatencyReport

THREADS = 1  # what ``--latency-budget`` is about: one image on one thread
ROUNDS = 9

Decision = LinearChoice | AttentionChoice


class PlanTimes:
    """Times of one model's layers and plans, as fractions of the float model's time.

    Args:
        original: The float model.
        structure: What was found in its canonical form.
        feed: Calibration data; its first image is what models are timed on.
        budget: ``--latency-budget``.
        progress: Told about the measurements.

    Raises:
        RuntimeLibraryError: There is no operator library to time.
    """

    def __init__(
        self, original: onnx.ModelProto, structure: Structure, feed: Feed, budget: float, progress: Progress
    ) -> None:
        self.budget = budget
        self._machine = this_machine(THREADS)
        self._costs = MeasuredCosts(self._machine, LatencyCache(self._machine), progress)
        self._feed = _one_image(original, feed)
        self._float = first_output(quantized_session(original, THREADS))
        self._structure = structure
        self._linears: Mapping[str, LinearShape] = linear_shapes(structure)
        self._attentions: Mapping[str, AttentionShape] = {
            block.softmax: attention_shape(block) for block in structure.attentions
        }
        shapes: dict[str, Shape] = {**self._linears, **self._attentions}
        shares = self._costs.shares(model_hash(original), self._float, self._feed, shapes.values())
        self._prediction = TimePrediction(TimeShares.of(shapes, shares), self._costs)
        self._times: dict[tuple[str, Decision], float] = {}

    def learn(self, candidates: Candidates) -> None:
        """Measure the operators of all candidates."""
        kinds = dict(self._kinds(candidates))
        self._prediction.learn(kinds.values())
        self._times = {(name, decision): self._prediction.time(name, kind) for (name, decision), kind in kinds.items()}

    def timed(
        self, options: Mapping[str, Sequence[Choice]], decisions: Mapping[str, Sequence[Decision]]
    ) -> dict[str, list[Choice]]:
        """Options of the integer program with their times; their decisions were learned."""
        return {
            name: [
                replace(choice, time=self._times[name, decision])
                for choice, decision in zip(choices, decisions[name], strict=True)
            ]
            for name, choices in options.items()
        }

    def limited(
        self, limits: Limits, realiser: Realiser, fixed: Mapping[str, LinearChoice], *, integer: bool
    ) -> Limits:
        """Limits with that of the time.

        Args:
            limits: The other limits.
            realiser: Holds samples and weights.
            fixed: Decisions of the layers that are not searched.
            integer: Channel groups are integer multiples of one base scale.
        """
        kinds = {}
        for name, choice in fixed.items():
            samples = realiser.input_samples(self._structure.linear(name))
            weight, norm = realiser.weights[name], realiser.norms.get(name)
            item = fit_input(choice, samples, weight, norm=norm, integer=integer)
            blocks = choice.weight_block > 0
            kinds[name] = linear_kind(self._linears[name], choice.weight_bits, blocks, item.quantizer, item.normalize)
        return replace(limits, time=self.budget, constant_time=self._prediction.whole(kinds))

    def report(self, plan: QuantPlan) -> LatencyReport:
        """What is predicted for a plan.

        Raises:
            BudgetError: It takes longer than the budget allows: a plan from a file cannot be made faster.
        """
        kinds: dict[str, Kind] = {
            name: linear_kind(
                self._linears[name], item.weight.bits, item.weight.blocks is not None, item.input, item.normalize
            )
            for name, item in plan.linears.items()
        }
        kinds |= {name: attention_kind(self._attentions[name], item) for name, item in plan.attentions.items()}
        predicted = self._prediction.whole(kinds)
        if predicted > self.budget * (1 + TIME_TOLERANCE):
            needed = math.ceil(predicted * 1e4) / 1e4
            raise BudgetError(
                f"the plan takes {needed:g} of the float model's time and --latency-budget allows {self.budget:g}; "
                f"give --latency-budget {needed:g} or more, or another plan"
            )
        fixed = fixed_layers(self._structure)
        free = [shape for name, shape in self._linears.items() if name not in fixed]
        widths = compare_widths(self._costs, free or self._linears.values())
        machine = self._machine
        return LatencyReport(self.budget, predicted, machine.processor, machine.path, THREADS, widths.sentence())

    def measure(self, model: onnx.ModelProto) -> float:
        """Processor time of a written model over that of the float model, in interleaved rounds."""
        runs = {"float": self._float, "compiled": first_output(quantized_session(model, THREADS))}
        found = measure_latency(runs, self._feed, rounds=ROUNDS, threads=THREADS, clock=time.thread_time)
        return 1 / found[1].ratio

    def _kinds(self, candidates: Candidates) -> Iterator[tuple[tuple[str, Decision], Kind]]:
        for name, found in candidates.linears.items():
            for weight, item in product(found.weights, found.inputs):
                quantizer, normalize = item.item.quantizer, item.item.normalize
                kind = linear_kind(self._linears[name], weight.bits, weight.block > 0, quantizer, normalize)
                yield (name, found.choice(weight, item)), kind
        for name, items in candidates.attentions.items():
            for candidate in items:
                yield (name, candidate.choice), attention_kind(self._attentions[name], candidate.plan)


def _one_image(model: onnx.ModelProto, feed: Feed) -> Feed:
    """The first image of a feed, or the whole batch where the model fixes it."""
    fixed = any(item.batch is not None for item in model_inputs(model))
    return {name: np.ascontiguousarray(x if fixed else x[:1]) for name, x in feed.items()}
