"""The search for a plan: the integer program over all candidates, and plans tried out on real images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from qcompiler.allocation.loss_table import LossTable, Weigh
from qcompiler.allocation.losses import LEAST
from qcompiler.allocation.program import Choice, Limits, solve
from qcompiler.calibration.inputs import Feed
from qcompiler.driver.effort import LEVELS
from qcompiler.driver.finals import Tried, finals
from qcompiler.driver.fitting import Candidates, fit_candidates
from qcompiler.driver.image_counts import finalists, part_moves
from qcompiler.driver.latency import PlanTimes
from qcompiler.driver.layers import fixed_layers, free_products
from qcompiler.driver.losses import LossMeasurement, losses_from_relevance
from qcompiler.driver.methods import Method
from qcompiler.driver.predictions import predicting_layers
from qcompiler.driver.realise import Realiser
from qcompiler.driver.resume import Resume
from qcompiler.driver.trial import Trial, plain_size
from qcompiler.driver.weighing import Weighing, moves
from qcompiler.driver.weight_shares import weight_shares
from qcompiler.errors import BudgetError
from qcompiler.options import CompileOptions
from qcompiler.progress import Progress
from qcompiler.quant.choices import GROUPS, AttentionChoice, Choices, LinearChoice
from qcompiler.quant.plan import QuantPlan, Widths
from qcompiler.quant.sites import Role
from qcompiler.relevance.suffix import Operand
from qcompiler.report.search import PlanPoint

FIXED_GROUPS = 8  # of patch embedding and head, where the number of groups hardly matters
WORTHWHILE = 0.99  # a refinement must lower the measured loss below this share of it
OTHER_BUDGETS = (0.75, 1.25, 1.5)  # shares of the asked one, tried out to show what more or fewer operations would buy
FINAL_DRAWS = 3  # of every image, where plans are compared with their final weights: less luck than of one
ANNOTATION_BYTES = 2048  # of one layer: what the report adds to the file, and bodies of operators of other plans

Decision = LinearChoice | AttentionChoice
Deliver = Callable[[Sequence[Choices]], Iterable[QuantPlan]]


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        choices: The plan.
        points: Plans that were tried out, in order; the last one that was kept is the plan.
        losses: Candidates and their predicted losses.
    """

    choices: Choices
    points: tuple[PlanPoint, ...]
    losses: LossTable


class Search:
    """Searches one model.

    Args:
        model: Canonical float model.
        realiser: Makes plans.
        operands: Operand of every site.
        method: What is searched, and by which losses.
        options: Options of the compilation.
        relevance: Share of every layer and attention product, by name; empty if the method does not ask for it.
        progress: Told about every step.
        times: Times of candidates, where a latency budget limits them.
        resume: What was measured before an interruption.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        realiser: Realiser,
        operands: Mapping[str, Operand],
        method: Method,
        options: CompileOptions,
        relevance: Mapping[str, float],
        progress: Progress,
        times: PlanTimes | None = None,
        resume: Resume | None = None,
    ) -> None:
        self._times = times
        self._resume = resume
        self._model = model
        self._realiser = realiser
        self._structure = realiser.structure
        self._operands = operands
        self._method = method
        self._options = options
        self._relevance = relevance
        self._progress = progress
        self._kinds = {layer.name: layer.kind for layer in self._structure.linears}
        self._kinds.update({block.softmax: "attention" for block in self._structure.attentions})
        self._products = {block.softmax: (block.scores, block.mixing) for block in self._structure.attentions}

    def run(
        self,
        probes: Sequence[Feed],
        trials: Sequence[Feed],
        original_bytes: int,
        images: int | None = None,
        deliver: Deliver | None = None,
    ) -> Found:
        """Find the plan.

        Args:
            probes: Images that sensitivities are measured on.
            trials: Images that whole plans are tried out on.
            original_bytes: Size of the float model, which ``--size-budget`` is a fraction of.
            images: Images that the weights of the plan will be fitted to, if known.
            deliver: Gives plans their final weights; None to choose by the quick ones.

        Raises:
            BudgetError: No plan meets the budgets.
        """
        candidates = fit_candidates(self._realiser, self._method.space, self._options, self._progress)
        if self._times is not None:
            self._times.learn(candidates)
        if self._method.sensitivity:
            measurement = LossMeasurement(
                self._model, self._structure, self._operands, self._method, self._options, self._progress, self._resume
            )
            table = measurement.run(candidates, probes)
        else:
            table = losses_from_relevance(candidates, self._structure, self._relevance)
        table = table.with_shares(self._shares(candidates, trials, images))
        limits = self._limits(table, original_bytes)
        if not (self._method.refine and LEVELS[self._options.effort].trials):
            return Found(self._program(table, limits, Weighing())[0], (), table)
        corrected = self._model.graph.output[0].name in predicting_layers(self._model, self._structure)
        trial = Trial(self._model, trials, self._options.threads, corrected=corrected)
        return self._refined(table, limits, trial, deliver)

    def _shares(self, candidates: Candidates, feeds: Sequence[Feed], images: int | None) -> dict[str, float]:
        """What fitting the weights leaves of their losses, which are those of weights rounded to nearest."""
        inputs = {
            name: (self._operands[f"{name}:{Role.INPUT.value}"].tensor, len(found.float_weight))
            for name, found in candidates.linears.items()
            if not self._realiser.too_few(name, images)
        }
        if not inputs:
            return {}
        self._progress.stage("estimate the fit of weights", len(inputs))
        held = len(next(iter(feeds[0].values())))
        few = feeds[: -(-LEVELS[self._options.effort].share_images // held)]
        return weight_shares(self._model, inputs, few, self._options.threads, self._progress.advance)

    def fixed_choices(self) -> dict[str, LinearChoice]:
        """Decisions of patch embedding and head."""
        bits = self._options.first_last_bits
        fixed = sorted(fixed_layers(self._structure))
        return {name: LinearChoice(bits, bits, scheme=GROUPS, groups=FIXED_GROUPS) for name in fixed}

    def _limits(self, table: LossTable, original_bytes: int) -> Limits:
        products = free_products(self._structure)
        budget = self._options.product_budget
        if budget is not None:
            allowed = budget * sum(product.bops(Widths(8, 8)) for product in products)
        elif self._options.bits is not None:
            allowed = float(sum(product.bops(self._method.centre) for product in products))
        else:
            allowed = math.inf  # a latency budget decides
        limits = Limits(allowed, self._options.overhead_budget, self._weight_bytes(table, original_bytes))
        if self._times is None:
            return limits
        integer = self._options.groups == "integer"
        return self._times.limited(limits, self._realiser, self.fixed_choices(), integer=integer)

    def _weight_bytes(self, table: LossTable, original_bytes: int) -> int | None:
        """What ``--size-budget`` leaves for the weights that are searched; None without one.

        The rest of the file is known from one plan that is built: that of the smallest weights.
        """
        budget = self._options.size_budget
        if budget is None:
            return None
        options, decisions = table.options(lambda *_: 1.0)
        smallest = {name: min(range(len(items)), key=lambda i: items[i].bytes) for name, items in options.items()}
        choices = self._decide(decisions, smallest)
        weights = sum(options[name][index].bytes for name, index in smallest.items())
        whole = plain_size(self._model, self._realiser.realise(choices).plan)
        whole += ANNOTATION_BYTES * (len(choices.linears) + len(choices.attentions))
        if whole > budget * original_bytes:
            needed = math.ceil(whole / original_bytes * 1e4) / 1e4
            raise BudgetError(
                f"the smallest model takes {needed:g} of the float model's size and --size-budget allows {budget:g}; "
                f"give --size-budget {needed:g} or more"
            )
        return int(budget * original_bytes) - (whole - weights)

    def _weigh(self, weighing: Weighing) -> Weigh:
        """Factor of a loss: that of its part and its width, and its layer's relevance where the method wants that."""
        centre = self._method.centre
        mean = sum(self._relevance.values()) / len(self._relevance) if self._method.relevance else 1.0
        # Losses that nothing was measured for hold the relevance already.
        power = weighing.relevance_power - (not self._method.sensitivity)

        def weigh(name: str, side: str, bits: int) -> float:
            factor = weighing.factor(name, side)
            if bits != (centre.weight if side == "weight" else centre.activation):
                factor *= weighing.caution
            if not self._method.relevance:
                return factor
            product = dict(zip(("scores", "mixing"), self._products.get(name, ()), strict=False)).get(side, name)
            return factor * (max(self._relevance[product], LEAST) / mean) ** power

        return weigh

    def _decide(self, decisions: Mapping[str, Sequence[Decision]], taken: Mapping[str, int]) -> Choices:
        found = {name: decisions[name][index] for name, index in taken.items()}
        linears = {name: item for name, item in found.items() if isinstance(item, LinearChoice)}
        attentions = {name: item for name, item in found.items() if isinstance(item, AttentionChoice)}
        return Choices({**self.fixed_choices(), **linears}, attentions)

    def _program(self, table: LossTable, limits: Limits, weighing: Weighing) -> tuple[Choices, list[Choice]]:
        options, decisions = table.options(self._weigh(weighing))
        if self._times is not None:
            options = self._times.timed(options, decisions)
        taken = solve(options, limits)
        return self._decide(decisions, taken), [options[name][index] for name, index in taken.items()]

    def _refined(self, table: LossTable, limits: Limits, trial: Trial, deliver: Deliver | None) -> Found:
        """Try plans out, and let parts of the model count more or less while that lowers the measured loss.

        Losses of single layers do not add up exactly: what one layer does changes what the others cost. So whole parts
        (a kind of layer, its inputs or its weights) are weighted anew, the program is solved again, and the plan that
        it gives is tried out.
        """
        count = part_moves(self._options, self._structure)
        attempts = list(moves(table, self._kinds, count, relevance=self._method.relevance))
        self._progress.stage("try plans out", len(attempts) + 1)
        weighing = Weighing()
        choices, chosen = self._program(table, limits, weighing)
        loss = self._measured(choices, trial)
        self._progress.advance()
        points = [self._point("program", chosen, loss, kept=True)]
        tried = [Tried(choices, weighing, points[0])]
        for move in attempts:
            attempt = move(weighing)
            choices, chosen = self._program(table, limits, attempt)
            self._progress.advance()
            if any(choices == other.choices for other in tried):
                continue
            found = self._measured(choices, trial)
            kept = found < WORTHWHILE * loss
            points.append(self._point(str(move), chosen, found, kept))
            tried.append(Tried(choices, attempt, points[-1]))
            if kept:
                weighing, loss = attempt, found
        best = next(other for other in reversed(tried) if other.point.kept)
        if deliver is not None and (count := finalists(self._structure)) > 1:
            best, more = self._final(tried, count, trial, deliver)
            points += more
        points += self._around(table, limits, best.weighing, trial)
        return Found(best.choices, tuple(points), table)

    def _final(
        self, tried: Sequence[Tried], count: int, trial: Trial, deliver: Deliver
    ) -> tuple[Tried, list[PlanPoint]]:
        """Choose among the best plans with the weights that would be delivered.

        Which codes a fit rounds to is partly luck, and that of the quick weights says nothing of the final ones'.
        """
        chosen = finals(tried, count)
        self._progress.stage("quantize weights of the best plans", len(chosen))
        points: list[PlanPoint] = []
        best = chosen[0]
        for item, plan in zip(chosen, deliver([item.choices for item in chosen]), strict=True):
            loss = trial.measure(plan, FINAL_DRAWS)
            kept = all(loss < point.loss for point in points)
            best = item if kept else best
            points.append(replace(item.point, label=f"{item.point.label}, final weights", loss=loss, kept=kept))
            self._progress.advance()
        return best, points

    def _measured(self, choices: Choices, trial: Trial) -> float:
        """Loss of a plan; one that was tried out before an interruption is not built again."""

        def measure() -> float:
            return trial.measure(self._realiser.realise(choices).plan)

        return measure() if self._resume is None else self._resume.loss(choices, measure)

    def _around(self, table: LossTable, limits: Limits, weighing: Weighing, trial: Trial) -> list[PlanPoint]:
        """Plans of other budgets, for the report alone."""
        if self._options.product_budget is None or self._options.bits is not None:
            return []
        points = []
        for share in OTHER_BUDGETS:
            try:
                choices, chosen = self._program(table, replace(limits, products=share * limits.products), weighing)
            except BudgetError:
                continue  # no plan costs so little
            loss = self._measured(choices, trial)
            points.append(self._point(f"budget x {share:g}", chosen, loss, kept=False))
        return points

    def _point(self, label: str, chosen: Sequence[Choice], loss: float, kept: bool) -> PlanPoint:
        whole = sum(product.bops(Widths(8, 8)) for product in free_products(self._structure))
        products = sum(item.products for item in chosen)
        bookkeeping = sum(item.bookkeeping for item in chosen)
        size = sum(item.bytes for item in chosen)
        return PlanPoint(label, products / whole, bookkeeping / products, size, loss, kept)
