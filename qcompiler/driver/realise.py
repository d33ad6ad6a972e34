"""From decisions to a quantization plan: quantizers fitted to the samples, weights to the moments of the inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from qcompiler.allocation.attention_candidates import attention_bookkeeping
from qcompiler.allocation.candidates import input_bookkeeping
from qcompiler.calibration.feeds import CalibrationReader
from qcompiler.calibration.moments import HELD_OUT, MomentAccumulator, channel_energy, collect_moments
from qcompiler.calibration.statistics import Statistics
from qcompiler.driver.memory_gate import MemoryGate
from qcompiler.driver.memory_parts import memory_parts
from qcompiler.errors import OptionError
from qcompiler.ir.fold_sites import FoldSite
from qcompiler.ir.structure import LinearLayer, Structure
from qcompiler.ir.weight_files import release, tensor_array
from qcompiler.quant.attention_inputs import AttentionSamples, fit_attention
from qcompiler.quant.bookkeeping import weight_bops
from qcompiler.quant.choices import AttentionChoice, Choices, LinearChoice
from qcompiler.quant.fit_inputs import InputSamples, fit_input
from qcompiler.quant.fit_weights import MOMENT_ROWS_PER_CHANNEL, enough_rows, linear_weight, nearest_weight
from qcompiler.quant.groups import CHANNELS, F32, ROWS
from qcompiler.quant.inputs import LinearInput
from qcompiler.quant.moments import InputMoments
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan, LinearPlan, QuantPlan
from qcompiler.quant.sites import Role, attention_sites, linear_product
from qcompiler.relevance.suffix import Operand

MOMENT_BYTES = 1 << 30  # most that is held at a time
MOMENTS_OF_A_LAYER = 7  # float32 matrices [C, C]: three to fit to, three held out, and one on its way into them
FIT_BYTES = 1 << 30  # most that fits of weights hold at a time, beside the moments of all images
MATRICES_OF_A_FIT = 4  # as above: a float64 matrix and the copy that a solver works on
MATRICES_OF_A_SAMPLE = 4  # as above: moments of one layer's sample

Moments = tuple[InputMoments, InputMoments | None]


@dataclass(frozen=True)
class Planned:
    """A plan and what is known of its layers, by their names (of the Softmax for an attention block).

    Attributes:
        plan: The plan.
        bookkeeping: Bit operations of every layer's bookkeeping per image.
    """

    plan: QuantPlan
    bookkeeping: Mapping[str, int]


class Realiser:
    """Makes plans of one model; what was fitted once is kept for the next plan.

    Args:
        model: Canonical float model.
        structure: What was found in it.
        folds: LayerNormalizations that may take a fold.
        statistics: Answers to the requests of :mod:`qcompiler.driver.sites`.
        operands: Operand of every site.
        integer: Keep channel groups on integer multiples of one base scale.
        threads: Layers fitted at a time; 0 for all cores.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        structure: Structure,
        folds: tuple[FoldSite, ...],
        statistics: Statistics,
        operands: Mapping[str, Operand],
        *,
        integer: bool = True,
        threads: int = 0,
    ) -> None:
        self.structure = structure
        self._model = model
        self._statistics = statistics
        self._operands = operands
        self._integer = integer
        self._threads = threads
        self._workers = threads or os.cpu_count() or 1
        self._gate = MemoryGate(FIT_BYTES)
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        # Those of a large model are mapped from a file, so nothing is copied.
        self.weights: dict[str, F32] = {
            layer.name: tensor_array(constants[layer.weight]).astype(np.float32, copy=False)
            for layer in structure.linears
        }
        self.norms = {site.consumers[0]: site.norm for site in folds if len(site.consumers) == 1}
        self._inputs: dict[tuple[str, LinearChoice], LinearInput] = {}
        self._linears: dict[tuple[str, LinearChoice], LinearPlan] = {}
        self._final: dict[tuple[str, LinearChoice], LinearPlan] = {}  # fitted to all images
        self._attentions: dict[tuple[str, AttentionChoice], AttentionPlan | BlockAttentionPlan] = {}

    def input_samples(self, layer: LinearLayer) -> InputSamples:
        """Statistics of a linear layer's input."""
        tensor = self._operands[f"{layer.name}:{Role.INPUT.value}"].tensor
        sample = self._statistics.get(tensor, "sample")
        return InputSamples(sample, {axis: self._statistics.get(tensor, f"ranges{axis}") for axis in (CHANNELS, ROWS)})

    def attention_samples(self, softmax: str) -> AttentionSamples:
        """Statistics of an attention block's operands."""
        block = next(item for item in self.structure.attentions if item.softmax == softmax)
        sample = {
            site.role: self._statistics.get(self._operands[site.name].tensor, "sample")
            for site in attention_sites(block)
        }
        key = np.ascontiguousarray(sample[Role.KEY].swapaxes(-1, -2))
        return AttentionSamples(sample[Role.QUERY], key, sample[Role.VALUE], sample[Role.PROBABILITY])

    def realise(
        self,
        choices: Choices,
        reader: CalibrationReader | None = None,
        progress: Callable[[int], None] = lambda _: None,
        *,
        most: int | None = None,
        held: int | None = None,
    ) -> Planned:
        """Fit everything that a set of decisions needs.

        Args:
            choices: A decision for every linear layer and attention block.
            reader: Weights are fitted to the moments of all its images; None for those of the sampled images, which is
                quick and good enough to tell bad plans from good ones. Always the same data: what was fitted is kept.
            progress: Called with the number of images so far.
            most: Images of the data to use; None for all.
            held: Images of the data, if known.

        Raises:
            OptionError: A decision is missing, names no layer, or does not fit its layer.
        """
        self._check(choices)
        with threadpool_limits(1), ThreadPoolExecutor(self._workers) as pool:
            names = list(choices.linears)
            inputs = dict(
                zip(names, pool.map(lambda name: self._input(name, choices.linears[name]), names), strict=True)
            )
            if reader is None:
                linears = list(pool.map(lambda name: self._sampled(name, choices.linears[name], inputs[name]), names))
            else:
                new = {name: choice for name, choice in choices.linears.items() if (name, choice) not in self._final}
                for item in self._of_all_images(new, inputs, reader, progress, most, held, pool):
                    self._final[item.name, new[item.name]] = item
                linears = [self._final[name, choices.linears[name]] for name in names]
            blocks = list(choices.attentions)
            attentions = list(pool.map(lambda name: self._attention(name, choices.attentions[name]), blocks))
        plan = QuantPlan(
            {item.name: item for item in linears},
            {item.name: item for item in attentions},
            {item.fold.norm: item.fold for item in inputs.values() if item.fold is not None},
        )
        return Planned(plan, self._bookkeeping(choices, inputs, plan))

    def _check(self, choices: Choices) -> None:
        wanted = {layer.name for layer in self.structure.linears}
        blocks = {block.softmax for block in self.structure.attentions}
        for given, known in ((choices.linears, wanted), (choices.attentions, blocks)):
            unknown, missing = sorted(set(given) - known), sorted(known - set(given))
            if unknown:
                raise OptionError(f"the plan names '{unknown[0]}', which is no layer of this model")
            if missing:
                raise OptionError(f"the plan says nothing about layer '{missing[0]}'")

    def _input(self, name: str, choice: LinearChoice) -> LinearInput:
        key = (name, choice)
        if key not in self._inputs:
            samples = self.input_samples(self.structure.linear(name))
            try:
                self._inputs[key] = fit_input(
                    choice, samples, self.weights[name], norm=self.norms.get(name), integer=self._integer
                )
            except OptionError as error:
                raise OptionError(f"layer '{name}': {error}") from None
            finally:
                release(self.weights[name])  # all inputs are fitted before the first weight
        return self._inputs[key]

    def _sampled(self, name: str, choice: LinearChoice, item: LinearInput) -> LinearPlan:
        key = (name, choice)
        if key not in self._linears:
            sample = self.input_samples(self.structure.linear(name)).sample
            channels = sample.shape[-1]
            if not enough_rows(sample.size // channels, channels):
                self._linears[key] = self._linear(name, choice, item, channel_energy(item, sample))
            else:
                with self._gate.hold((MATRICES_OF_A_SAMPLE + MATRICES_OF_A_FIT) * self._matrix_bytes(name)):
                    accumulator = MomentAccumulator(item)
                    accumulator.add(sample, held_out=False)
                    self._linears[key] = self._linear(name, choice, item, accumulator.result())
        return self._linears[key]

    def _moments(
        self,
        inputs: Mapping[str, LinearInput],
        reader: CalibrationReader,
        progress: Callable[[int], None],
        most: int | None,
    ) -> dict[str, Moments]:
        wanted = {name: (self._operands[f"{name}:{Role.INPUT.value}"].tensor, item) for name, item in inputs.items()}
        return collect_moments(self._model, wanted, reader, threads=self._threads, progress=progress, most=most)

    def _of_all_images(
        self,
        choices: Mapping[str, LinearChoice],
        inputs: Mapping[str, LinearInput],
        reader: CalibrationReader,
        progress: Callable[[int], None],
        most: int | None,
        held: int | None,
        pool: ThreadPoolExecutor,
    ) -> list[LinearPlan]:
        images = min((count for count in (most, held) if count is not None), default=None)
        few = [name for name in choices if self.too_few(name, images)]
        found = list(pool.map(lambda name: self._sampled(name, choices[name], inputs[name]), few))
        sizes = {name: MOMENTS_OF_A_LAYER * self._matrix_bytes(name) for name in choices if name not in few}
        parts = list(memory_parts(sizes, MOMENT_BYTES))
        whole = 0  # images, known after the first run

        def advance(run: int, images: int) -> None:
            nonlocal whole
            whole = max(whole, images)
            progress((run * whole + images) // len(parts))

        if not parts and images is not None:
            progress(images)
        for run, part in enumerate(parts):
            found += self._part(part, choices, inputs, reader, partial(advance, run), most, pool)
        return found

    def _part(
        self,
        names: Sequence[str],
        choices: Mapping[str, LinearChoice],
        inputs: Mapping[str, LinearInput],
        reader: CalibrationReader,
        progress: Callable[[int], None],
        most: int | None,
        pool: ThreadPoolExecutor,
    ) -> list[LinearPlan]:
        """Layers whose moments are collected in one run and forgotten afterwards, before those of the next."""
        moments = self._moments({name: inputs[name] for name in names}, reader, progress, most)

        def fit(name: str) -> LinearPlan:
            with self._gate.hold(MATRICES_OF_A_FIT * self._matrix_bytes(name)):
                return self._linear(name, choices[name], inputs[name], moments.pop(name))

        return list(pool.map(fit, names))

    def too_few(self, name: str, images: int | None) -> bool:
        """Whether so many images cannot determine a layer's weights: collecting their moments would be for nothing."""
        product = linear_product(self.structure.linear(name))
        needed = MOMENT_ROWS_PER_CHANNEL * product.inner
        return images is not None and images * product.rows * product.count < needed * HELD_OUT / (HELD_OUT - 1)

    def _matrix_bytes(self, name: str) -> int:
        """Bytes of one float32 matrix of second moments of a layer's input."""
        return 4 * len(self.weights[name]) ** 2

    def _linear(self, name: str, choice: LinearChoice, item: LinearInput, known: Moments | F32) -> LinearPlan:
        """Fit a layer to moments of its input, or to the energy of its channels where there are too few rows."""
        given = self.weights[name], item, choice.weight_bits, choice.weight_block
        weight = linear_weight(*given, *known) if isinstance(known, tuple) else nearest_weight(*given, known)
        release(self.weights[name])
        return LinearPlan(name, weight, item.quantizer, item.normalize)

    def _attention(self, name: str, choice: AttentionChoice) -> AttentionPlan | BlockAttentionPlan:
        key = (name, choice)
        if key not in self._attentions:
            self._attentions[key] = fit_attention(name, choice, self.attention_samples(name))
        return self._attentions[key]

    def _bookkeeping(self, choices: Choices, inputs: Mapping[str, LinearInput], plan: QuantPlan) -> dict[str, int]:
        found = {}
        for layer in self.structure.linears:
            block = choices.linears[layer.name].weight_block
            found[layer.name] = input_bookkeeping(layer, inputs[layer.name]) + weight_bops(linear_product(layer), block)
        for attention in self.structure.attentions:
            found[attention.softmax] = attention_bookkeeping(attention, plan.attentions[attention.softmax])
        return found
