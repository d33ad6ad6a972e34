"""Sensitivity of single layers: the float model with one layer quantized, for many layers side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from qcompiler.calibration.inputs import Feed
from qcompiler.errors import NonFiniteError
from qcompiler.ir.temporary_folders import temporary_folder
from qcompiler.progress import Progress, Silent
from qcompiler.quant.groups import F32
from qcompiler.relevance.array_store import Array
from qcompiler.relevance.executors import Executor, Transport
from qcompiler.relevance.jobs import Measured, SensitivityJob, Variant
from qcompiler.relevance.measures import RelativeError, mean_kl
from qcompiler.relevance.probe_values import ProbeValues, probe_values
from qcompiler.relevance.skeleton import Skeleton
from qcompiler.relevance.suffix import Operand, SuffixGraph

BYTE_LIMIT = 2 * 2**30


@dataclass(frozen=True)
class ProbeContext:
    """What every job shares: the float model and what it gives on the probe images."""

    skeleton: Skeleton
    values: ProbeValues

    def in_files(self, folder: Path) -> ProbeContext:
        """The same with all arrays in files below an existing folder."""
        return ProbeContext(self.skeleton.in_files(folder / "weights"), self.values.in_files(folder / "values"))

    def in_memory(self) -> ProbeContext:
        """The same with all arrays in memory."""
        return ProbeContext(self.skeleton.in_memory(), self.values.in_memory())


class SensitivityProbe:
    """Measures layers one at a time on a few images.

    A job runs the part of the model behind its operand, from stored values of the float run. Operands whose values do
    not fit below the byte limit are measured from the images: their jobs run the front of the float model again, once
    for each feed. The numbers are the same whatever the executor and the order of the jobs.

    The probe owns a temporary folder where it needs one; :meth:`close` removes it, as does leaving its ``with`` block.

    Args:
        model: Canonical float model with float32 activations.
        feeds: Probe images; every feed is run as it is.
        operands: Operands of the jobs that will be asked for.
        threads: Threads of ONNX Runtime for the one float run, 0 for all cores; a measurement uses one thread.
        byte_limit: Most bytes of stored values; weights and images come on top.
        transport: How jobs will reach their values, from :attr:`Executor.transport`. Values are converted where
            an executor wants another one.

    Raises:
        NonFiniteError: The float prediction holds NaN or infinity.
        OutputPathError: The temporary folder cannot be written.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        feeds: Sequence[Feed],
        operands: Iterable[Operand],
        threads: int = 0,
        byte_limit: int = BYTE_LIMIT,
        transport: Transport = Transport.SAME_PROCESS,
    ) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        folder = self._new_folder() if transport is Transport.FILES else None
        try:
            skeleton = Skeleton.of(model, folder and folder / "weights")
            values = probe_values(skeleton, feeds, operands, threads, byte_limit, folder and folder / "values")
        except BaseException:
            self.close()
            raise
        self._context = ProbeContext(skeleton, values)

    def __enter__(self) -> SensitivityProbe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary folder, if there is one; nothing can be measured afterwards."""
        if self._folder is not None:
            self._folder.cleanup()

    def measure(
        self,
        jobs: Iterable[SensitivityJob],
        executor: Executor,
        progress: Progress | None = None,
        record: Callable[[str, tuple[Measured, ...]], None] = lambda *_: None,
    ) -> dict[str, tuple[Measured, ...]]:
        """Measure every variant of every job.

        Args:
            jobs: Jobs with different names. An iterator is read only as far as workers can follow, so that the weights
                of all variants need not be in memory together.
            executor: Where they run.
            progress: Advanced by one step for each job; the caller names the stage.
            record: Given the name of each job and what it found as soon as it is done.

        Returns:
            What each variant of a job does, by the job's name, in the order of the jobs.

        Raises:
            NonFiniteError: A variant predicts NaN or infinity.
            ValueError: Two jobs have one name, or a job does not fit the model.
            Exception: What a simulation raised.
        """
        progress = progress or Silent()
        names: list[str] = []
        found: dict[int, tuple[Measured, ...]] = {}
        # Closed here, and not whenever a traceback lets go of it: workers end as soon as anything fails.
        with closing(executor.run(measure_job, self._shared(executor), _watched(jobs, names))) as results:
            for index, measured in results:
                found[index] = measured
                record(names[index], measured)
                progress.advance()
        return {name: found[index] for index, name in enumerate(names)}

    def _shared(self, executor: Executor) -> ProbeContext:
        if executor.transport is Transport.FILES and self._folder is None:  # still in memory
            self._context = self._context.in_files(self._new_folder())
        return self._context.in_memory() if executor.transport is Transport.OBJECTS else self._context

    def _new_folder(self) -> Path:
        self._folder = temporary_folder()
        return Path(self._folder.name)


def _watched(jobs: Iterable[SensitivityJob], names: list[str]) -> Iterator[SensitivityJob]:
    seen: set[str] = set()
    for job in jobs:
        if job.name in seen:
            raise ValueError(f"two jobs are named '{job.name}'")
        seen.add(job.name)
        names.append(job.name)
        yield job


def measure_job(context: ProbeContext, job: SensitivityJob) -> tuple[Measured, ...]:
    """Measure the variants of one job, on one thread.

    Raises:
        NonFiniteError: A variant predicts NaN or infinity.
        ValueError: The job does not fit the model.
    """
    # Jobs run side by side: a linear algebra library that starts threads in each of them only gets in their way.
    with threadpool_limits(1):
        return _Measurement(context, job).result()


class _Measurement:
    """One job; its sessions are made once for all variants."""

    def __init__(self, context: ProbeContext, job: SensitivityJob) -> None:
        skeleton, graph = context.skeleton, SuffixGraph(context.skeleton.model)
        self._job = job
        self._values = context.values
        self._weight = None if job.weight is None else skeleton.constant(job.weight)
        self._logits = skeleton.model.graph.output[0].name
        start = dict.fromkeys([job.operand.tensor, *graph.frontier(job.operand)])
        self._layer = skeleton.session(graph.cut(job.operand, job.weight, [job.output]), threads=1)
        self._suffix = skeleton.session(graph.cut(job.operand, job.weight, [self._logits, job.output]), threads=1)
        missing = self._values.missing(start)
        self._stored = [name for name in start if name not in missing]
        self._prefix = skeleton.session(graph.prefix(missing), threads=1) if missing else None

    def result(self) -> tuple[Measured, ...]:
        """What each variant does."""
        variants = self._job.variants
        errors = [RelativeError() for _ in variants]
        logits: list[list[F32]] = [[] for _ in variants]
        for feed in self._values.feeds:
            values = self._start_values(feed)
            operand = values[self._job.operand.tensor]
            expected = self._layer.run(self._replacing(values, operand, self._weight))[self._job.output]
            for variant, error, rows in zip(variants, errors, logits, strict=True):
                found = self._suffix.run(self._variant_values(values, operand, variant))
                error.add(expected, found[self._job.output])
                rows.append(found[self._logits])
        reference = np.concatenate(self._values.logits)
        return tuple(
            self._checked(Measured(mean_kl(reference, np.concatenate(rows)), error.value))
            for rows, error in zip(logits, errors, strict=True)
        )

    def _start_values(self, feed: int) -> dict[str, Array]:
        stored = self._values.of(self._stored, feed)
        if self._prefix is None:
            return stored
        return {**stored, **self._prefix.run(self._values.of(self._values.inputs, feed))}

    def _variant_values(self, values: Mapping[str, Array], operand: F32, variant: Variant) -> dict[str, Array]:
        replaced, weight = operand, self._weight
        if variant.simulate is not None:
            replaced = self._fitting(variant.simulate(operand), operand, "a simulated operand")
        if variant.weight is not None:
            if weight is None:
                raise ValueError(f"'{self._job.name}': a variant has a weight, the job names no initialiser")
            weight = self._fitting(variant.weight, weight, "the weight of a variant")
        return self._replacing(values, replaced, weight)

    def _fitting(self, array: Array, model: Array, what: str) -> F32:
        if array.shape != model.shape:
            raise ValueError(f"'{self._job.name}': {what} has shape {array.shape}, not {model.shape}")
        return np.ascontiguousarray(array, np.float32)

    def _replacing(self, values: Mapping[str, Array], operand: F32, weight: Array | None) -> dict[str, Array]:
        fed = {**values, SuffixGraph.REPLACED: operand}
        return fed if weight is None else {**fed, SuffixGraph.WEIGHT: weight}

    def _checked(self, measured: Measured) -> Measured:
        if not math.isfinite(measured.kl):
            raise NonFiniteError(
                f"the prediction is NaN or infinity when '{self._job.name}' is quantized: check the calibration data"
            )
        return measured
