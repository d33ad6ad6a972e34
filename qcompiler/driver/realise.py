"""From decisions to a quantization plan: quantizers fitted to the samples, weights to the moments of the inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from qcompiler.quant.choices import FOLDED, AttentionChoice, Choices, LinearChoice
from qcompiler.quant.fit_inputs import InputSamples, fit_input
from qcompiler.quant.fit_weights import MOMENT_ROWS_PER_CHANNEL, enough_rows, linear_weight, nearest_weight
from qcompiler.quant.groups import CHANNELS, F32, ROWS
from qcompiler.quant.inputs import LinearInput
from qcompiler.quant.moments import InputMoments
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan, LinearPlan, QuantPlan
from qcompiler.quant.sites import Role, attention_sites, linear_product
from qcompiler.relevance.suffix import Operand

MOMENT_BYTES = 1 << 30  # most that is held at a time
MOMENTS_OF_A_LAYER = 5  # float32 matrices [C, C]: two to fit to, two held out, and one on its way into them
FIT_BYTES = 1 << 30  # most that fits of weights hold at a time, beside the moments of all images
MATRICES_OF_A_FIT = 4  # as above: a float64 matrix and the copy that a solver works on
MATRICES_OF_A_SAMPLE = 3  # as above: moments of one layer's sample

Moments = tuple[InputMoments, InputMoments | None]
Key = tuple[str, LinearChoice]  # a layer and what is decided about it


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
        self._inputs: dict[Key, LinearInput] = {}
        self._linears: dict[Key, LinearPlan] = {}
        self._final: dict[Key, LinearPlan] = {}  # fitted to all images
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
        if reader is not None:
            self.fit_weights([choices], reader, progress, most=most, held=held)
        self._check(choices)
        with threadpool_limits(1), ThreadPoolExecutor(self._workers) as pool:
            inputs = self._fitted_inputs(choices.linears.items(), pool)
            if reader is None:
                linears = list(pool.map(lambda key: self._sampled(key, inputs[key]), inputs))
            else:
                linears = [self._final[key] for key in inputs]
            blocks = list(choices.attentions)
            attentions = list(pool.map(lambda name: self._attention(name, choices.attentions[name]), blocks))
        plan = QuantPlan(
            {item.name: item for item in linears},
            {item.name: item for item in attentions},
            {item.fold.norm: item.fold for item in inputs.values() if item.fold is not None},
        )
        return Planned(plan, self._bookkeeping(choices, inputs, plan))

    def fit_weights(
        self,
        plans: Sequence[Choices],
        reader: CalibrationReader,
        progress: Callable[[int], None] = lambda _: None,
        *,
        most: int | None = None,
        held: int | None = None,
    ) -> None:
        """Fit the weights of several plans to all images, in runs over the data that they share.

        Args:
            plans: Decisions for every linear layer and attention block.
            reader: The images; see :meth:`realise`, which takes the weights from here.
            progress: Called with the number of images so far.
            most: Images of the data to use; None for all.
            held: Images of the data, if known.

        Raises:
            OptionError: As for :meth:`realise`.
        """
        for choices in plans:
            self._check(choices)
        keys = dict.fromkeys(key for choices in plans for key in choices.linears.items() if key not in self._final)
        with threadpool_limits(1), ThreadPoolExecutor(self._workers) as pool:
            inputs = self._fitted_inputs(keys, pool)
            self._final.update(self._of_all_images(inputs, reader, progress, most, held, pool))

    def _check(self, choices: Choices) -> None:
        wanted = {layer.name for layer in self.structure.linears}
        blocks = {block.softmax for block in self.structure.attentions}
        for given, known in ((choices.linears, wanted), (choices.attentions, blocks)):
            unknown, missing = sorted(set(given) - known), sorted(known - set(given))
            if unknown:
                raise OptionError(f"the plan names '{unknown[0]}', which is no layer of this model")
            if missing:
                raise OptionError(f"the plan says nothing about layer '{missing[0]}'")

    def _fitted_inputs(self, keys: Iterable[Key], pool: ThreadPoolExecutor) -> dict[Key, LinearInput]:
        wanted = list(keys)
        return dict(zip(wanted, pool.map(self._input, wanted), strict=True))

    def _input(self, key: Key) -> LinearInput:
        name, choice = key
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

    def _sampled(self, key: Key, item: LinearInput) -> LinearPlan:
        if key not in self._linears:
            name = key[0]
            sample = self.input_samples(self.structure.linear(name)).sample
            channels = sample.shape[-1]
            if not enough_rows(sample.size // channels, channels):
                self._linears[key] = self._linear(key, item, channel_energy(item, sample))
            else:
                with self._gate.hold((MATRICES_OF_A_SAMPLE + MATRICES_OF_A_FIT) * self._matrix_bytes(name)):
                    accumulator = MomentAccumulator(item)
                    accumulator.add(sample, held_out=False)
                    self._linears[key] = self._linear(key, item, accumulator.result())
        return self._linears[key]

    def _of_all_images(
        self,
        inputs: Mapping[Key, LinearInput],
        reader: CalibrationReader,
        progress: Callable[[int], None],
        most: int | None,
        held: int | None,
        pool: ThreadPoolExecutor,
    ) -> dict[Key, LinearPlan]:
        images = min((count for count in (most, held) if count is not None), default=None)
        few = [key for key in inputs if self.too_few(key[0], images)]
        found = dict(zip(few, pool.map(lambda key: self._sampled(key, inputs[key]), few), strict=True))
        readers: dict[Key, list[Key]] = {}  # by what they read
        for key in inputs:
            if key not in found:
                readers.setdefault(_input_key(key), []).append(key)
        parts = list(
            memory_parts({key: MOMENTS_OF_A_LAYER * self._matrix_bytes(key[0]) for key in readers}, MOMENT_BYTES)
        )
        whole = 0  # images, known after the first run

        def advance(run: int, images: int) -> None:
            nonlocal whole
            whole = max(whole, images)
            progress((run * whole + images) // len(parts))

        if not parts and images is not None:
            progress(images)
        for run, part in enumerate(parts):
            fits = {key: {each: inputs[each] for each in readers[key]} for key in part}
            found.update(self._part(fits, reader, partial(advance, run), most, pool))
        return found

    def _part(
        self,
        fits: Mapping[Key, Mapping[Key, LinearInput]],
        reader: CalibrationReader,
        progress: Callable[[int], None],
        most: int | None,
        pool: ThreadPoolExecutor,
    ) -> dict[Key, LinearPlan]:
        """Layers whose moments are collected in one run and forgotten afterwards, before those of the next."""
        tensors = {key: self._operands[f"{key[0]}:{Role.INPUT.value}"].tensor for key in fits}
        wanted = {key: (tensors[key], next(iter(items.values()))) for key, items in fits.items()}
        moments = collect_moments(self._model, wanted, reader, threads=self._threads, progress=progress, most=most)

        def fit(source: Key) -> dict[Key, LinearPlan]:
            known = moments.pop(source)
            with self._gate.hold(MATRICES_OF_A_FIT * self._matrix_bytes(source[0])):
                return {key: self._linear(key, item, known) for key, item in fits[source].items()}

        return {key: plan for found in pool.map(fit, fits) for key, plan in found.items()}

    def too_few(self, name: str, images: int | None) -> bool:
        """Whether so many images cannot determine a layer's weights: collecting their moments would be for nothing."""
        product = linear_product(self.structure.linear(name))
        needed = MOMENT_ROWS_PER_CHANNEL * product.inner
        return images is not None and images * product.rows * product.count < needed * HELD_OUT / (HELD_OUT - 1)

    def _matrix_bytes(self, name: str) -> int:
        """Bytes of one float32 matrix of second moments of a layer's input."""
        return 4 * len(self.weights[name]) ** 2

    def _linear(self, key: Key, item: LinearInput, known: Moments | F32) -> LinearPlan:
        """Fit a layer to moments of its input, or to the energy of its channels where there are too few rows."""
        name, choice = key
        given = self.weights[name], item, choice.weight_bits, choice.weight_block
        weight = linear_weight(*given, *known) if isinstance(known, tuple) else nearest_weight(*given, known)
        release(self.weights[name])
        return LinearPlan(name, weight, item.quantizer, item.normalize)

    def _attention(self, name: str, choice: AttentionChoice) -> AttentionPlan | BlockAttentionPlan:
        key = (name, choice)
        if key not in self._attentions:
            self._attentions[key] = fit_attention(name, choice, self.attention_samples(name))
        return self._attentions[key]

    def _bookkeeping(self, choices: Choices, inputs: Mapping[Key, LinearInput], plan: QuantPlan) -> dict[str, int]:
        found = {}
        for layer in self.structure.linears:
            choice = choices.linears[layer.name]
            weights = weight_bops(linear_product(layer), choice.weight_block)
            found[layer.name] = input_bookkeeping(layer, inputs[layer.name, choice]) + weights
        for attention in self.structure.attentions:
            found[attention.softmax] = attention_bookkeeping(attention, plan.attentions[attention.softmax])
        return found


def _input_key(key: Key) -> Key:
    """What the quantizer of the input depends on: weights count where a fold shares the channels' spread with them."""
    name, choice = key
    return key if choice.scheme == FOLDED else (name, replace(choice, weight_bits=8, weight_block=0))
