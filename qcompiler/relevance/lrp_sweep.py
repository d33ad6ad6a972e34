"""From the prediction of one batch of images back to its layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from qcompiler.calibration.float_session import float_session
from qcompiler.errors import NonFiniteError, UnsupportedModelError
from qcompiler.ir.outputs import with_outputs
from qcompiler.ir.weight_files import release
from qcompiler.quant.groups import F32
from qcompiler.relevance.lrp_path import RelevancePath
from qcompiler.relevance.lrp_rules import rule_of
from qcompiler.relevance.lrp_shares import LINEAR_RULES
from qcompiler.relevance.lrp_visit import Visit

Feed = Mapping[str, npt.NDArray[Any]]
F64 = npt.NDArray[np.float64]


class Sweep:
    """Forward run and backward sweep of one batch at a time.

    Args:
        model: Canonical float model.
        tensors: Layer -> tensor at which its relevance is read.
        rule: Rule of the linear layers.
        threads: Threads of ONNX Runtime; 0 for all cores.

    Attributes:
        stream: The tensors of the residual stream, in graph order.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Mapping[str, str], rule: str, threads: int) -> None:
        known = {name for node in model.graph.node for name in node.output}
        for layer, tensor in tensors.items():
            if tensor not in known:
                raise KeyError(f"layer '{layer}': no node makes the tensor '{tensor}'")
        self._path = RelevancePath.of(model)
        self._layers = list(tensors.values())
        self._linear = LINEAR_RULES[rule]
        self.stream = self._path.stream()
        self._nodes = self._path.below([*self._layers, *self.stream])
        self._names = list(dict.fromkeys([*self._path.outputs, *self._path.reads(self._nodes)]))
        self._session = float_session(with_outputs(model, self._names), threads)

    def run(self, feed: Feed, images: int) -> tuple[F64, F64]:
        """One batch.

        Args:
            feed: The batch.
            images: Number of images in it.

        Returns:
            Absolute relevance of each layer ``[images, layers]``, and what is left of the relevance at each tensor of
            the residual stream as a fraction of the start ``[images, tensors]``.

        Raises:
            NonFiniteError: The output, or relevance that has grown beyond float32.
            UnsupportedModelError: An operator without a rule, or images that lie along another axis than the first.
        """
        values = self._forward(feed)
        start = {name: self._per_image(name, _start(values[name], images), images) for name in self._path.outputs}
        if len(start) > 1:  # outputs count alike, whatever their scale
            start = {
                name: _fraction(rows, np.abs(rows).sum(axis=1, keepdims=True)).astype(np.float32)
                for name, rows in start.items()
            }
        total = np.sum([rows.sum(axis=1, dtype=np.float64) for rows in start.values()], axis=0)
        mass = np.zeros((images, len(self._layers)))
        kept = np.zeros((images, len(self.stream)))
        wanted = {*self._layers, *self.stream}
        begin = {name: rows.reshape(values[name].shape) for name, rows in start.items()}
        for name, relevance in self._backward(values, begin, images):
            if name not in wanted:
                continue
            rows = self._per_image(name, relevance, images)
            sizes, sums = np.abs(rows).sum(axis=1, dtype=np.float64), rows.sum(axis=1, dtype=np.float64)
            mass[:, [tensor == name for tensor in self._layers]] = sizes[:, None]
            kept[:, [tensor == name for tensor in self.stream]] = _fraction(sums, total)[:, None]
        if not np.isfinite(mass).all():
            raise NonFiniteError("relevance grew beyond the range of float32: choose the other rule with --lrp-rule")
        return mass, kept

    def _forward(self, feed: Feed) -> dict[str, npt.NDArray[Any]]:
        values = {**feed, **dict(zip(self._names, self._session.run(self._names, dict(feed)), strict=True))}
        if not all(np.isfinite(values[name]).all() for name in self._path.outputs):
            raise NonFiniteError("the model gives NaN or infinity: check the model and the data it is run on")
        return values

    def _backward(
        self, values: dict[str, npt.NDArray[Any]], start: Mapping[str, F32], images: int
    ) -> Iterable[tuple[str, F32]]:
        """Every tensor whose relevance is complete, with it; values are dropped as they are done with."""
        relevance = dict(start)
        for node in reversed(self._nodes):
            inputs = self._path.readings(node, values, images)
            shapes = tuple(self._path.shape(name, values, images) for name in node.output)
            arrived = tuple(relevance.pop(name, None) for name in node.output)
            for name, found in zip(node.output, arrived, strict=True):
                values.pop(name, None)
                if found is not None:
                    yield name, found
            if all(found is None for found in arrived):
                continue
            visit = Visit(node, inputs, shapes, arrived, self._linear)
            handed = rule_of(node).back(visit)
            for item in inputs:
                if item is not None and not item.variable:
                    release(item.value)
            for name, found in zip(node.input, handed, strict=False):
                if found is not None and name in self._path.variables:
                    relevance[name] = relevance[name] + found if name in relevance else found
        yield from relevance.items()

    def _per_image(self, name: str, relevance: F32, images: int) -> F32:
        """``[images, ...]``; where axis 0 holds windows, those of one image lie together."""
        if images > 1 and (relevance.ndim == 0 or len(relevance) % images or not self._path.leads(name)):
            raise UnsupportedModelError(
                f"the images of a batch do not lie along axis 0 of '{name}': measure relevance with one image per feed"
            )
        return relevance.reshape(images, -1)


def _start(output: F32, images: int) -> F32:
    """Relevance of an output."""
    if output.ndim != 2 or len(output) != images:
        return np.maximum(output, 0)
    place = output.argmax(axis=1, keepdims=True)
    found = np.zeros_like(output)
    np.put_along_axis(found, place, np.take_along_axis(output, place, axis=1), axis=1)
    return found


def _fraction(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> F64:
    """``part / whole``, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole != 0)
