"""Models of one operator, and random cases for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from qcompiler import runtime_ops

F32 = np.float32
DOMAIN = "qcompiler"


def table(rows: list[tuple[float, ...]] | np.ndarray) -> np.ndarray:
    """A table of groups `[g, 6]` from rows (lower, upper, scale, zero_point, multiplier, outer)."""
    return np.asarray(rows, F32).reshape(-1, 6)


def one_group(scale: float = 1.0, zero_point: int = 128) -> np.ndarray:
    """A table of one group whose operands are the codes less the zero point."""
    return table([(-1, 1, scale, zero_point, 1, scale)])


def one_segment(scale: float = 1.0, zero_point: int = 128) -> np.ndarray:
    """The same for segments=1."""
    return table([(-1, 1, scale, zero_point, scale, 1)])


@dataclass
class Node:
    """One operator: run-time inputs by shape at `run`, constants and attributes fixed."""

    op: str
    inputs: list[str]  # names of all inputs in order; those that are not in `constants` come at run time
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    int4: bool = False
    rank: int = 3

    def model(
        self, shapes: dict[str, list[Any]] | None = None, functions: list[onnx.FunctionProto] | None = None
    ) -> bytes:
        """The serialized model; `shapes` gives the declared shapes of run-time inputs (otherwise only the rank)."""
        shapes = shapes or {}
        initializers = []
        for name, value in self.constants.items():
            if name == "W" and self.int4:
                initializers.append(
                    helper.make_tensor(name, TensorProto.INT4, value.shape, value.ravel().astype(np.int8))
                )
            else:
                initializers.append(onnx.numpy_helper.from_array(value, name))
        ranks = {"bias": 4, "X": self.rank, "residual": self.rank}
        inputs = [
            helper.make_tensor_value_info(
                name, TensorProto.FLOAT, shapes.get(name, [f"{name}{i}" for i in range(ranks.get(name, 3))])
            )
            for name in self.inputs
            if name not in self.constants
        ]
        node = helper.make_node(self.op, self.inputs, ["Y"], name="layer", domain=DOMAIN, **self.attributes)
        output = helper.make_empty_tensor_value_info("Y")
        output.type.tensor_type.elem_type = TensorProto.FLOAT
        graph = helper.make_graph([node], "one_operator", inputs, [output], initializers)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, functions=functions or [], ir_version=10
        ).SerializeToString()

    def session(self, threads: int = 1) -> Any:
        return runtime_ops.session(self.model(), threads=threads, library=True)

    def run(self, feeds: dict[str, np.ndarray], threads: int = 1) -> np.ndarray:
        result: np.ndarray = self.session(threads).run(None, feeds)[0]
        return result


def linear_node(
    weight: np.ndarray,
    groups: np.ndarray,
    *,
    bits: int = 8,
    axis: int = -2,
    segments: int = 0,
    w_scale: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    int4: bool = False,
    rank: int = 3,
    norm: tuple[np.ndarray, np.ndarray] | None = None,
    gelu: bool = False,
    residual: bool = False,
    **attributes: Any,
) -> Node:
    """A linear operator; with default `w_scale` and `bias` and outer scales of 1 its outputs are the accumulators."""
    outputs = weight.shape[1]
    constants = {
        "W": weight.astype(np.int8),
        "w_scale": np.ones(outputs, F32) if w_scale is None else w_scale,
        "groups": groups,
        "bias": np.zeros(outputs, F32) if bias is None else bias,
    }
    inputs = ["X", "W", "w_scale", "groups", "bias"]
    if norm:
        constants |= {"gamma": norm[0], "beta": norm[1]}
        inputs[1:1] = ["gamma", "beta"]
    if residual:
        inputs.append("residual")
    op = ("LayerNorm" if norm else "") + "GroupLinear" + ("Gelu" if gelu else "") + ("Add" if residual else "")
    return Node(op, inputs, constants, {"bits": bits, "axis": axis, "segments": segments, **attributes}, int4, rank)


def attention_node(
    tables: list[np.ndarray],
    levels: np.ndarray,
    *,
    num_heads: int,
    scale: float,
    bits: int,
    bias: np.ndarray | bool = False,
) -> Node:
    """An attention operator; `bias` is a constant, or True for a run-time input."""
    names = ["q_groups", "k_groups", "v_groups", "p_groups"]
    constants = dict(zip(names, tables, strict=True)) | {"levels": levels}
    inputs = ["QKV", *names, "levels"]
    if bias is not False:
        inputs.append("bias")
    if isinstance(bias, np.ndarray):
        constants["bias"] = bias
    op = "GroupAttention" + ("Bias" if bias is not False else "")
    return Node(op, inputs, constants, {"num_heads": num_heads, "scale": scale, "bits": bits})


MODES = {"rows": (-2, 0), "multiples": (-1, 0), "segments": (-1, 1)}  # name -> axis, segments
WIDEST = {"rows": 8, "multiples": 7, "segments": 8}  # bits; the operands of multiples are signed bytes within +-127


def plain(mode: str, scale: float = 1.0) -> dict[str, Any]:
    """Table and attributes of one group, zero point in the middle, the codes as wide as the mode allows."""
    bits = WIDEST[mode]
    axis, segments = MODES[mode]
    make = one_segment if segments else one_group
    return {"groups": make(scale, 2 ** (bits - 1)), "bits": bits, "axis": axis, "segments": segments}


def random_table(rng: np.random.Generator, mode: str, bits: int, count: int) -> np.ndarray:
    """A table that the operators accept, for activations of standard normal size; mode "bytes" is for attention."""
    top = 2**bits - 1
    rows = []
    base = F32(rng.uniform(0.01, 0.05) * 4 / (top + 1) * 16)
    for _ in range(count):
        centred = bits == 8 and mode == "bytes"  # an operand is a signed byte
        zero_point = 128 if centred else int(rng.integers(0, top + 1))
        reach = max(zero_point, top - zero_point)
        low, high = -abs(rng.normal()) * 2, abs(rng.normal()) * 2
        scale = F32(base * rng.uniform(0.5, 2))
        if mode == "multiples":
            multiplier = F32(rng.integers(1, max(1, 127 // reach) + 1))
            rows.append((low, high, F32(base * multiplier), zero_point, multiplier, base))
        elif mode == "segments":
            rows.append((low, high, scale, zero_point, scale, 1))
        else:
            rows.append((low, high, scale, zero_point, 1, scale))
    return table(rows)


def random_weight(rng: np.random.Generator, channels: int, outputs: int, int4: bool) -> np.ndarray:
    """Weights over the whole range of their type."""
    return rng.integers(-8 if int4 else -128, 8 if int4 else 128, (channels, outputs)).astype(np.int8)


def probability_table(rng: np.random.Generator, levels: int, count: int) -> np.ndarray:
    """Groups of softmax rows by their maximum: a step per group and an outer scale of its own."""
    rows = []
    for maximum in np.sort(rng.uniform(0.05, 1, count)):
        scale = F32(maximum / (levels - 1))
        rows.append((0, maximum, scale, 0, 1, F32(scale * 0.5)))
    return table(rows)
