"""The losses of all candidates: measured on a few images, or taken from relevance."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from qcompiler.allocation.attention_candidates import AttentionCandidate
from qcompiler.allocation.candidates import InputCandidate, LinearCandidates, WeightCandidate
from qcompiler.allocation.loss_table import AttentionLosses, LinearLosses, LossTable
from qcompiler.allocation.losses import predicted_losses, relevance_losses
from qcompiler.allocation.sensitivity_jobs import (
    ATTENTION_ROLES,
    attention_jobs,
    best_inputs,
    best_weights,
    input_job,
    nearest_widths,
    weight_job,
)
from qcompiler.calibration.inputs import Feed
from qcompiler.driver.effort import LEVELS
from qcompiler.driver.fitting import Candidates
from qcompiler.driver.methods import Method
from qcompiler.driver.resume import Resume
from qcompiler.ir.structure import Structure
from qcompiler.ir.weight_files import release
from qcompiler.options import CompileOptions
from qcompiler.progress import Progress
from qcompiler.relevance.executors import make_executor
from qcompiler.relevance.jobs import Measured, SensitivityJob
from qcompiler.relevance.sensitivity import SensitivityProbe
from qcompiler.relevance.suffix import Operand

SIDES = {"query": "left", "key": "right", "probability": "left", "value": "right"}


def losses_from_relevance(candidates: Candidates, structure: Structure, relevance: Mapping[str, float]) -> LossTable:
    """An error costs as much as its layer is relevant; nothing is measured."""
    linear_losses = {
        name: LinearLosses(
            tuple(relevance_losses([item.error for item in found.inputs], relevance[name])),
            tuple(relevance_losses([item.error for item in found.weights], relevance[name])),
        )
        for name, found in candidates.linears.items()
    }
    attention_losses = {}
    for block in structure.attentions:
        items = candidates.attentions[block.softmax]
        scores = [item.scores.left + item.scores.right for item in items]
        mixing = [item.mixing.left + item.mixing.right for item in items]
        attention_losses[block.softmax] = AttentionLosses(
            tuple(relevance_losses(scores, relevance[block.scores])),
            tuple(relevance_losses(mixing, relevance[block.mixing])),
        )
    return LossTable(candidates.linears, linear_losses, candidates.attentions, attention_losses)


@dataclass(frozen=True)
class LossMeasurement:
    """Measures a few candidates of every operand, the others follow from their errors.

    Attributes:
        model: Canonical float model.
        structure: What was found in it.
        operands: Operand of every site.
        method: What is searched.
        options: Effort, executor and threads.
        progress: Told about every job.
        resume: Knows the jobs that were done before an interruption, and keeps those that are done now.
    """

    model: onnx.ModelProto
    structure: Structure
    operands: Mapping[str, Operand]
    method: Method
    options: CompileOptions
    progress: Progress
    resume: Resume | None = None

    def run(self, candidates: Candidates, probes: Sequence[Feed]) -> LossTable:
        """Losses of all candidates, in nats."""
        linears = {name: self._measured(found) for name, found in candidates.linears.items()}
        attentions = {name: self._measured_attention(items) for name, items in candidates.attentions.items()}
        measured = self._measure(self._jobs(candidates, linears, attentions), candidates, probes)
        linear_losses = {}
        for name, found in candidates.linears.items():
            inputs, weights = linears[name]
            linear_losses[name] = LinearLosses(
                tuple(_linear_losses(found.inputs, inputs, measured[f"{name}:input"])),
                tuple(_linear_losses(found.weights, weights, measured[f"{name}:weight"])),
            )
        attention_losses = {}
        for name, items in candidates.attentions.items():
            parts = {
                role: _losses(
                    [getattr(getattr(item, node), SIDES[role]) for item in items],
                    attentions[name],
                    measured[f"{name}:{role}"],
                )
                for role, node in ATTENTION_ROLES.items()
            }
            attention_losses[name] = AttentionLosses(
                tuple(map(sum, zip(parts["query"], parts["key"], strict=True))),
                tuple(map(sum, zip(parts["probability"], parts["value"], strict=True))),
            )
        return LossTable(candidates.linears, linear_losses, candidates.attentions, attention_losses)

    def _measure(
        self, jobs: Iterator[SensitivityJob], candidates: Candidates, probes: Sequence[Feed]
    ) -> dict[str, tuple[Measured, ...]]:
        sites = [f"{name}:input" for name in candidates.linears]
        sites += [f"{name}:{role}" for name in candidates.attentions for role in ATTENTION_ROLES]
        self.progress.stage("measure sensitivity", len(sites) + len(candidates.linears))
        known = {} if self.resume is None else dict(self.resume.jobs)
        if known:
            self.progress.advance(len(known))
        if len(known) == len(sites) + len(candidates.linears):
            return known
        operands = {(item.node, item.index): item for item in map(self.operands.__getitem__, sites)}.values()
        workers = self.options.threads or os.cpu_count() or 1
        executor = make_executor("inline" if workers == 1 else self.options.executor, workers)
        try:
            with SensitivityProbe(
                self.model, probes, operands, self.options.threads, transport=executor.transport
            ) as probe:
                record = (lambda *_: None) if self.resume is None else self.resume.keep_job
                return {**known, **probe.measure(jobs, executor, self.progress, record)}
        finally:
            executor.close()

    def _everything(self) -> bool:
        return self.method.exhaustive or self.options.effort == "high"

    def _measured(self, found: LinearCandidates) -> tuple[list[int], list[int]]:
        """Indices of the input and of the weight candidates that are measured."""
        if self._everything():
            return list(range(len(found.inputs))), list(range(len(found.weights)))
        count, centre = LEVELS[self.options.effort].widths, self.method.centre
        activations = nearest_widths((item.bits for item in found.inputs), centre.activation, count)
        weights = nearest_widths((item.bits for item in found.weights), centre.weight, count)
        return best_inputs(found, activations, centre.activation), best_weights(found, weights, centre.weight)

    def _measured_attention(self, items: Sequence[AttentionCandidate]) -> list[int]:
        """Indices of the candidates that are measured: of equal widths, which stand for the others."""
        equal = [index for index, item in enumerate(items) if item.choice.qk_bits == item.choice.value_bits]
        if self._everything():
            return equal
        count = LEVELS[self.options.effort].widths
        widths = nearest_widths((items[i].choice.qk_bits for i in equal), self.method.centre.activation, count)
        return [index for index in equal if items[index].choice.qk_bits in widths]

    def _jobs(
        self,
        candidates: Candidates,
        linears: Mapping[str, tuple[list[int], list[int]]],
        attentions: Mapping[str, list[int]],
    ) -> Iterator[SensitivityJob]:
        known = {} if self.resume is None else self.resume.jobs
        outputs = {node.name: node.output[0] for node in self.model.graph.node}
        for name, found in candidates.linears.items():
            operand = self.operands[f"{name}:input"]
            inputs, weights = linears[name]
            if f"{name}:input" not in known:
                yield input_job(found, operand, inputs)
            if f"{name}:weight" not in known:
                yield weight_job(found, operand, weights)
                release(found.float_weight)
        for block in self.structure.attentions:
            items = [candidates.attentions[block.softmax][i] for i in attentions[block.softmax]]
            operands = {role: self.operands[f"{block.softmax}:{role}"] for role in ATTENTION_ROLES}
            jobs = attention_jobs(block, items, operands, outputs)
            yield from (job for job in jobs if job.name not in known)


def _linear_losses(
    items: Sequence[InputCandidate | WeightCandidate], indices: Sequence[int], measured: Sequence[Measured]
) -> list[float]:
    families = [item.family for item in items]
    return predicted_losses([item.error for item in items], dict(zip(indices, measured, strict=True)), families)


def _losses(errors: Sequence[float], indices: Sequence[int], measured: Sequence[Measured]) -> list[float]:
    return predicted_losses(errors, dict(zip(indices, measured, strict=True)))
