"""Attempts on the native operators: one node whose attributes, constants, inputs and feeds are not what they should be.

The session or the run must refuse with an exception, or the result must have the right shape and be the same in every
run and on the reference path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qcompiler import runtime_ops

from ..runtime_ops.nodes import (
    F32,
    Node,
    attention_node,
    block_attention_node,
    block_node,
    divisors,
    linear_node,
    probability_table,
    random_blocks,
    random_table,
    random_weight,
)
from .outcomes import RefusalError, WrongError

Rng = np.random.Generator

# The last two: three times the one is -1, and three times the other is 2, in 64 bits.
INTEGERS = (
    *(-(2**63), -(2**31), -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 64, 127, 128, 255, 256, 4096, 65537),
    *(2**31 - 1, 2**31, 2**32, 2**32 + 2, 2**62, 2**63 - 1, 0x5555555555555555, 0x5555555555555556),
)
NUMBERS = (np.nan, np.inf, -np.inf, 0.0, -0.0, -0.5, 0.3, 1.0, 1e-45, -1e-45, 1e-38, 3e38, -3e38, 2.0**20, 1e-7)
HUGE = 1e15  # squares and sums of what is smaller are finite
ATTRIBUTES = (
    *("bits", "axis", "segments", "normalize", "approximate", "epsilon", "block", "clip", "slack", "rotate"),
    *("num_heads", "scale", "qk_bits", "v_bits", "version", "unheard_of"),
)


def attempt(rng: Rng) -> str:
    """One node, up to three things wrong with it."""
    node, feeds = _linear(rng) if rng.random() < 0.65 else _attention(rng)
    model = onnx.load_from_string(node.model())
    for _ in range(rng.integers(0, 4)):
        rng.choice(np.array([_attribute, _attribute, _constant, _constant, _values, _wiring, _declared, _feed]))(
            rng, model, feeds
        )
    paths = [path.name for path in runtime_ops.cpu_paths() if path.built and path.detected]
    chosen = str(rng.choice(paths))
    threads = int(rng.choice([1, 1, 3]))
    first = _run(model, feeds, chosen, threads)
    second = _run(model, feeds, chosen, 1)
    if first.tobytes() != second.tobytes():
        raise WrongError(f"{chosen}: two runs differ by {np.nanmax(np.abs(first - second))}")
    _check_shape(model, feeds, first)
    _check_paths(model, feeds, first, chosen)
    return f"{model.graph.node[0].op_type} on {chosen}"


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray], path: str, threads: int) -> np.ndarray:
    runtime_ops.select_cpu_path(path)
    try:
        session = runtime_ops.session(model.SerializeToString(), threads=threads, library=True)
        result: np.ndarray = session.run(None, feeds)[0]
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        if isinstance(error, MemoryError) or not str(error).strip():
            raise WrongError(repr(error)) from error
        raise RefusalError(str(error)) from error
    return result


def _check_shape(model: onnx.ModelProto, feeds: dict[str, np.ndarray], result: np.ndarray) -> None:
    """The sizes that the definition gives, from the feeds alone."""
    node = model.graph.node[0]
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    source = feeds.get(node.input[0])
    if source is None:
        return
    last = source.shape[-1] // 3 if "Attention" in node.op_type else constants[node.input[_weight_index(node)]][1]
    if result.shape != (*source.shape[:-1], last):
        raise WrongError(f"input {source.shape}, result {result.shape}")


def _check_paths(model: onnx.ModelProto, feeds: dict[str, np.ndarray], result: np.ndarray, path: str) -> None:
    """NaN, infinity and what overflows stay in the instance that they are in: the others have the reference's values.

    Float operations may round differently, and a probability next to a boundary may get the next level.
    """
    name = model.graph.node[0].input[0]
    if name not in feeds or not len(result):
        return
    tame = [
        all(np.abs(values[instance % len(values)]).max(initial=0) < HUGE for values in feeds.values())
        for instance in range(len(feeds[name]))
    ]
    expected = _run(model, feeds, "reference", 1)
    near = np.isclose(result, expected, rtol=1e-3, atol=1e-3, equal_nan=True)[tame]
    if np.count_nonzero(~near) > 0.02 * near.size:
        raise WrongError(
            f"{model.graph.node[0].op_type} on {path}: {np.count_nonzero(~near)} of {near.size} values differ from the "
            "reference"
        )


def _weight_index(node: onnx.NodeProto) -> int:
    return 3 if node.op_type.startswith("LayerNorm") else 1


# ---- Nodes that are right -------------------------------------------------------------------------------------------


def _linear(rng: Rng) -> tuple[Node, dict[str, np.ndarray]]:
    channels, outputs = int(rng.integers(1, 70)), int(rng.integers(1, 40))
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, 20)), channels)
    int4 = bool(rng.random() < 0.5)
    weight = random_weight(rng, channels, outputs, int4)
    rest: dict[str, Any] = {
        "int4": int4,
        "w_scale": rng.uniform(0.001, 0.02, outputs).astype(F32),
        "bias": rng.normal(size=outputs).astype(F32),
        "w_blocks": random_blocks(rng, int(rng.choice(divisors(channels))), outputs),
    }
    if rng.random() < 0.4:
        rest["norm"] = (rng.uniform(0.5, 2, channels).astype(F32), rng.normal(size=channels).astype(F32))
    if rng.random() < 0.3:
        rest["gelu"] = True
    elif "norm" not in rest and rng.random() < 0.4:
        rest["residual"] = True
    if rng.random() < 0.5:
        powers = [size for size in divisors(channels) if size & (size - 1) == 0 and size <= 128]
        node = block_node(
            weight,
            bits=int(rng.integers(2, 8)),
            block=int(rng.choice(divisors(channels))),
            rotate=int(rng.choice(powers)),
            **rest,
        )
    else:
        mode = str(rng.choice(["rows", "multiples", "segments"]))
        axis, segments = {"rows": (-2, 0), "multiples": (-1, 0), "segments": (-1, 1)}[mode]
        bits = int(rng.integers(1, 7))
        groups = random_table(rng, mode, bits, int(rng.integers(1, 20)))
        node = linear_node(weight, groups, bits=bits, axis=axis, segments=segments, **rest)
    feeds = {"X": rng.normal(size=shape).astype(F32)}
    if "residual" in rest:
        feeds["residual"] = rng.normal(size=(*shape[:-1], outputs)).astype(F32)
    return node, feeds


def _attention(rng: Rng) -> tuple[Node, dict[str, np.ndarray]]:
    batch, tokens, heads, head = (int(rng.integers(1, most)) for most in (5, 20, 4, 20))
    levels = np.sort(rng.integers(0, 256, int(rng.integers(1, 257)))).astype(np.uint8)
    p_groups = probability_table(rng, max(len(levels), 2), int(rng.integers(1, 6)))
    scale = float(F32(head**-0.5))
    bias = bool(rng.random() < 0.4)
    feeds = {"QKV": rng.normal(size=(batch, tokens, 3 * heads * head)).astype(F32)}
    if bias:
        windows = int(rng.choice(divisors(batch)))
        feeds["bias"] = rng.normal(size=(windows, int(rng.choice([1, heads])), tokens, tokens)).astype(F32)
    if rng.random() < 0.5:
        widths = {"qk_bits": int(rng.integers(2, 8)), "v_bits": int(rng.integers(2, 8))}
        block = int(rng.choice(divisors(head)))
        return block_attention_node(
            p_groups, levels, num_heads=heads, scale=scale, block=block, bias=bias, **widths
        ), feeds
    bits = int(rng.integers(1, 9))
    tables = [random_table(rng, "bytes", bits, int(rng.integers(1, 6))) for _ in range(3)]
    return attention_node([*tables, p_groups], levels, num_heads=heads, scale=scale, bits=bits, bias=bias), feeds


# ---- What can be wrong ----------------------------------------------------------------------------------------------


def _attribute(rng: Rng, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    change_attribute(rng, model.graph.node[0])


def change_attribute(rng: Rng, node: onnx.NodeProto) -> None:
    """Another value, another type, gone, or an attribute that no operator has."""
    if node.attribute and rng.random() < 0.8:
        name = node.attribute[int(rng.integers(len(node.attribute)))].name
    else:
        name = str(rng.choice(ATTRIBUTES))
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    values: list[Any] = [
        int(INTEGERS[rng.integers(len(INTEGERS))]),
        float(NUMBERS[rng.integers(len(NUMBERS))]),
        str(rng.choice(["", "tanh", "none", "\0", "x" * 5000])),
        [1, 2],
        numpy_helper.from_array(np.zeros(3, F32)),
        None,
    ]
    value = values[rng.choice(6, p=[0.5, 0.25, 0.08, 0.05, 0.04, 0.08])]
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))


def _constant(rng: Rng, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    """An initialiser of another shape, type or size, or with raw bytes that do not fill it."""
    tensor = model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]
    value, name = _value(tensor), tensor.name
    if value is None:
        return
    choices: list[Callable[[], np.ndarray]] = [
        lambda: value.T.copy(),
        lambda: value[None],
        lambda: value.reshape(-1),
        lambda: value[:0],
        lambda: value[..., :0],
        lambda: np.concatenate([value, value]),
        lambda: value[..., :-1].copy(),
        lambda: value.reshape(-1)[:1].reshape(()),
        lambda: value.astype(np.float64),
        lambda: value.astype(np.uint8),
        lambda: value.astype(np.int8),
        lambda: value.astype(np.float32),
    ]
    pick = int(rng.integers(len(choices) + 2))
    if pick < len(choices):
        if value.ndim and value.size:
            tensor.CopyFrom(numpy_helper.from_array(choices[pick](), name))
    elif pick == len(choices):
        tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]
    else:
        for axis in range(len(tensor.dims)):
            tensor.dims[axis] = int(rng.choice(np.array([-1, 0, 1, 7, 2**31, 2**62], np.int64)))


def _values(rng: Rng, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    change_values(rng, model.graph.initializer[int(rng.integers(len(model.graph.initializer)))])


def change_values(rng: Rng, tensor: onnx.TensorProto) -> None:
    """A few entries of a constant replaced: NaN, infinity, zero, huge, negative; any byte."""
    value = _value(tensor)
    if value is None:
        return
    if tensor.data_type == TensorProto.FLOAT:
        value = value.copy()
        for _ in range(rng.integers(1, 4)):
            if value.size:
                value.reshape(-1)[rng.integers(value.size)] = NUMBERS[rng.integers(len(NUMBERS))]
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    elif tensor.HasField("raw_data"):
        tensor.raw_data = rng.bytes(len(tensor.raw_data))


def _wiring(rng: Rng, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    """An input less, more, twice, or a constant that arrives at run time."""
    node = model.graph.node[0]
    pick = rng.integers(5)
    if pick == 0:
        del node.input[int(rng.integers(len(node.input))) :]
    elif pick == 1:
        node.input.append(node.input[0])
    elif pick == 2:
        if node.input:
            node.input[int(rng.integers(len(node.input)))] = str(rng.choice(["", *node.input]))
    elif pick == 3:
        value = _value(model.graph.initializer[-1])
        if value is not None:
            tensor = model.graph.initializer.pop()
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
            feeds[tensor.name] = value
    else:
        node.op_type = str(
            rng.choice(["GroupLinear", "BlockAttention", "LayerNormBlockLinear", "GroupSort", "Nothing"])
        )


def _value(tensor: onnx.TensorProto) -> np.ndarray | None:
    """None where an earlier change has left no array."""
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError):
        return None


def _declared(rng: Rng, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    """Declared shapes of the inputs that the feeds may not have."""
    value = model.graph.input[int(rng.integers(len(model.graph.input)))]
    shape = value.type.tensor_type.shape
    if rng.random() < 0.3:
        value.type.tensor_type.ClearField("shape")
        return
    for dim in shape.dim:
        dim.Clear()
        if rng.random() < 0.7:
            dim.dim_value = int(rng.choice(np.array([-1, 0, 1, 3, 7, 2**31, 2**62], np.int64)))


def _feed(rng: Rng, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    """Another shape, nothing in it, or NaN and infinity in it."""
    name = str(rng.choice(list(feeds)))
    value = feeds[name]
    pick = rng.integers(8)
    if pick < 4:
        value = value.copy()
        for _ in range(rng.integers(1, 5)):
            if value.size:
                value.reshape(-1)[rng.integers(value.size)] = NUMBERS[rng.integers(len(NUMBERS))]
    elif pick == 4:
        value = np.full_like(value, NUMBERS[rng.integers(len(NUMBERS))])
    elif pick == 5:
        axis = int(rng.integers(value.ndim)) if value.ndim else 0
        value = np.take(value, [], axis) if value.ndim else value
    elif pick == 6:
        value = value[..., :-1].copy() if value.ndim else value
    else:
        value = np.concatenate([value, value], int(rng.integers(value.ndim))) if value.ndim else value
    feeds[name] = value
