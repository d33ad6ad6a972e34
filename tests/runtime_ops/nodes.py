"""Models of one operator, and random cases for them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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
    activations: int = TensorProto.FLOAT  # type of the inputs that come at run time, and of the output

    def in_half(self) -> Node:
        """The same operator on float16."""
        return replace(self, activations=TensorProto.FLOAT16)

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
                name, self.activations, shapes.get(name, [f"{name}{i}" for i in range(ranks.get(name, 3))])
            )
            for name in self.inputs
            if name not in self.constants
        ]
        node = helper.make_node(self.op, self.inputs, ["Y"], name="layer", domain=DOMAIN, **self.attributes)
        output = helper.make_empty_tensor_value_info("Y")
        output.type.tensor_type.elem_type = self.activations
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


PLAIN = 0x18  # the byte of a block of weights that are used as they are: multiplier 1, zero point 0


def plain_blocks(outputs: int) -> np.ndarray:
    """One block of weights, multiplier 1 and zero point 0 for every output."""
    return np.full((1, outputs), PLAIN, np.uint8)


def random_blocks(rng: np.random.Generator, count: int, outputs: int) -> np.ndarray:
    """Any multiplier and any zero point for every block and output; small multipliers are the most frequent ones."""
    multiplier = np.minimum(rng.integers(1, 16, (count, outputs)), rng.integers(1, 16, (count, outputs)))
    return (multiplier << 4 | rng.integers(0, 16, (count, outputs))).astype(np.uint8)


def divisors(number: int) -> list[int]:
    """All divisors, in order."""
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]


def linear_node(
    weight: np.ndarray,
    groups: np.ndarray,
    *,
    bits: int = 8,
    axis: int = -2,
    segments: int = 0,
    **rest: Any,
) -> Node:
    """A grouped linear operator; `rest` is that of :func:`_family_node`."""
    attributes = {"bits": bits, "axis": axis, "segments": segments}
    return _family_node("GroupLinear", weight, {"groups": groups}, attributes, **rest)


def block_node(
    weight: np.ndarray,
    *,
    bits: int = 7,
    block: int,
    clip: float = 1.0,
    slack: float = 0.25,
    rotate: int = 1,
    **rest: Any,
) -> Node:
    """A linear operator with blocks in every token; `rest` is that of :func:`_family_node`."""
    attributes = {"bits": bits, "block": block, "clip": clip, "slack": slack, "rotate": rotate}
    return _family_node("BlockLinear", weight, {}, attributes, **rest)


def _family_node(
    family: str,
    weight: np.ndarray,
    tables: dict[str, np.ndarray],
    attributes: dict[str, Any],
    *,
    w_scale: np.ndarray | None = None,
    w_blocks: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    int4: bool = False,
    rank: int = 3,
    norm: tuple[np.ndarray, np.ndarray] | None = None,
    gelu: bool = False,
    residual: bool = False,
    **more: Any,
) -> Node:
    """A linear operator; with default constants and outer scales of 1 its outputs are the accumulators."""
    outputs = weight.shape[-1]
    constants = {
        "W": weight.astype(np.int8),
        "w_scale": np.ones(outputs, F32) if w_scale is None else w_scale,
        "w_blocks": plain_blocks(outputs) if w_blocks is None else w_blocks,
        **tables,
        "bias": np.zeros(outputs, F32) if bias is None else bias,
    }
    inputs = ["X", *constants]
    if norm:
        constants |= {"gamma": norm[0], "beta": norm[1]}
        inputs[1:1] = ["gamma", "beta"]
    if residual:
        inputs.append("residual")
    op = ("LayerNorm" if norm else "") + family + ("Gelu" if gelu else "") + ("Add" if residual else "")
    return Node(op, inputs, constants, {**attributes, **more}, int4, rank)


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


def block_attention_node(
    p_groups: np.ndarray,
    levels: np.ndarray,
    *,
    num_heads: int,
    scale: float,
    qk_bits: int,
    v_bits: int,
    block: int,
    clip: float = 1.0,
    slack: float = 0.25,
    bias: np.ndarray | bool = False,
) -> Node:
    """An attention operator with blocks in every token; `bias` as for :func:`attention_node`."""
    constants = {"p_groups": p_groups, "levels": levels}
    if isinstance(bias, np.ndarray):
        constants["bias"] = bias
    inputs = ["QKV", "p_groups", "levels", *(["bias"] if bias is not False else [])]
    widths = {"qk_bits": qk_bits, "v_bits": v_bits, "block": block, "clip": clip, "slack": slack}
    op = "BlockAttention" + ("Bias" if bias is not False else "")
    return Node(op, inputs, constants, {"num_heads": num_heads, "scale": scale, **widths})


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
    """Weights over the whole range of their type, less -128, which is no operand."""
    return rng.integers(-8 if int4 else -127, 8 if int4 else 128, (channels, outputs)).astype(np.int8)


def probability_table(rng: np.random.Generator, levels: int, count: int) -> np.ndarray:
    """Groups of softmax rows by their maximum: a step per group and an outer scale of its own."""
    rows = []
    for maximum in np.sort(rng.uniform(0.05, 1, count)):
        scale = F32(maximum / (levels - 1))
        rows.append((0, maximum, scale, 0, 1, F32(scale * 0.5)))
    return table(rows)
