"""Whether activations stay in the range of float16, watched while the narrowed model runs on the calibration images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from qcompiler.driver.runtime import quantized_session
from qcompiler.errors import NonFiniteError
from qcompiler.evaluation.runs import Feed, float_outputs
from qcompiler.ir.weight_files import tensor_array

LARGEST = float(np.finfo(np.float16).max)
NEAR = LARGEST / 2  # other images may hold twice of what these do
_PEAKS = "qcompile.peaks"
_MOVES = frozenset({"Concat", "Expand", "Flatten", "Gather", "Pad", "Reshape", "Slice", "Split", "Squeeze"})
_MOVES |= {"Tile", "Transpose", "Unsqueeze"}
# What puts a mask over scores, or makes one.
_MASKING = _MOVES | {"Add", "Cast", "Max", "Min", "Mul", "Sub", "Where"}
_REMEDY = "compile with --activations float32"


class WatchedRun:
    """Runs a model of float16 activations, and keeps the largest magnitude of each of them.

    Masks are left out: that they are at the end of the range is what they are for.

    Args:
        model: The narrowed model.
        threads: Threads of ONNX Runtime, 0 for all cores.
    """

    def __init__(self, model: onnx.ModelProto, threads: int) -> None:
        watched = list(_watched(model.graph))
        self._nodes = [node.name for node, _ in watched]
        self._peaks: npt.NDArray[np.float32] = np.zeros(len(watched), np.float32)
        self._run = float_outputs(quantized_session(_with_peaks(model, [name for _, name in watched]), threads))

    def __call__(self, feed: Feed) -> Mapping[str, npt.NDArray[Any]]:
        """The float outputs of one feed.

        Raises:
            NonFiniteError: An activation or an output is beyond float16.
        """
        outputs = dict(self._run(feed))
        peaks = outputs.pop(_PEAKS, self._peaks)
        beyond = ~(peaks <= LARGEST)  # also NaN
        if beyond.any():
            raise NonFiniteError(
                f"the result of node '{self._nodes[int(beyond.argmax())]}' goes beyond what float16 holds "
                f"({LARGEST:,.0f}) on a calibration image: {_REMEDY}"
            )
        self._peaks = np.maximum(self._peaks, peaks)
        for name, values in outputs.items():
            if not np.isfinite(values).all():
                raise NonFiniteError(f"output '{name}' is NaN or infinity with float16 activations: {_REMEDY}")
        return outputs

    def warning(self) -> str | None:
        """What to tell about activations near the end of the range; None where there is none."""
        if not (self._peaks > NEAR).any():
            return None
        most = int(self._peaks.argmax())
        return (
            f"the result of node '{self._nodes[most]}' reaches {self._peaks[most]:,.0f} on the calibration images, and "
            f"float16 ends at {LARGEST:,.0f}: other images may go beyond it; {_REMEDY} if they do"
        )


def _watched(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, str]]:
    """The float16 results of nodes that compute something, without masks."""
    narrow = {item.name for item in graph.value_info if item.type.tensor_type.elem_type == TensorProto.FLOAT16}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    masks: set[str] = set()
    for node in graph.node:
        standard = not node.domain
        if (
            standard
            and node.op_type in _MASKING
            and any(name in masks or _is_mask(name, constants) for name in node.input)
        ):
            masks.update(node.output)
        elif not (standard and node.op_type in _MOVES):
            yield from ((node, name) for name in node.output if name in narrow)


def _is_mask(name: str, constants: Mapping[str, TensorProto]) -> bool:
    tensor = constants.get(name)
    if tensor is None or tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        return False
    return bool((np.abs(tensor_array(tensor)) >= LARGEST).any())


def _with_peaks(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    """The model with one more output: the largest magnitudes of tensors, float32 ``[tensors]``."""
    if not tensors:
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    flat, zero = f"{_PEAKS}/flat", f"{_PEAKS}/zero"
    graph.initializer.append(helper.make_tensor(flat, TensorProto.INT64, [1], [-1]))
    graph.initializer.append(helper.make_tensor(zero, TensorProto.FLOAT, [1], [0.0]))
    peaks = []
    for index, tensor in enumerate(tensors):
        parts = [f"{_PEAKS}/{index}/{step}" for step in range(5)]
        graph.node.extend(
            [
                helper.make_node("Cast", [tensor], [parts[0]], parts[0], to=TensorProto.FLOAT),
                helper.make_node("Reshape", [parts[0], flat], [parts[1]], parts[1]),
                helper.make_node("Abs", [parts[1]], [parts[2]], parts[2]),
                # The maximum of no values is not defined.
                helper.make_node("Concat", [parts[2], zero], [parts[3]], parts[3], axis=0),
                helper.make_node("ReduceMax", [parts[3]], [parts[4]], parts[4], keepdims=1),
            ]
        )
        peaks.append(parts[4])
    graph.node.append(helper.make_node("Concat", peaks, [_PEAKS], _PEAKS, axis=0))
    graph.output.append(helper.make_tensor_value_info(_PEAKS, TensorProto.FLOAT, [len(tensors)]))
    return made
