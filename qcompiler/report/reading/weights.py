"""The weight of a linear layer, from its constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qcompiler.report.reading.layers import StoredWeight
from qcompiler.report.reading.wiring import Wiring, whole_numbers

_INTEGERS = {int(onnx.TensorProto.INT4): "int4", int(onnx.TensorProto.INT8): "int8"}
_PLAIN_BLOCK = 0x18  # multiple 1, zero point 0


def fused_weight(wiring: Wiring, codes: str, scale: str, blocks: str) -> StoredWeight | None:
    """The weight that a fused operator reads, or None where its inputs are no weight."""
    packed = wiring.array(blocks, 2)
    if packed is None or packed.dtype != np.uint8:
        return None
    plain = len(packed) == 1 and bool(np.all(packed == _PLAIN_BLOCK))
    return _stored(wiring, codes, 0 if plain else len(packed), scale, blocks)


def readable_weight(wiring: Wiring, tensor: str) -> StoredWeight | None:
    """The weight that is read back as ``tensor``, with a scale per output or with blocks, or None."""
    rescale = wiring.producer(tensor, "Mul")
    read_back = wiring.producer(tensor if rescale is None else rescale.input[0], "DequantizeLinear")
    if read_back is None:
        return None
    if rescale is None:
        return _stored(wiring, read_back.input[0], 0, *read_back.input[1:])
    multiples = wiring.array(read_back.input[1], 2)
    if multiples is None or whole_numbers(read_back, "block_size") is None:
        return None
    return _stored(wiring, read_back.input[0], len(multiples), *read_back.input[1:], *rescale.input[1:])


def _stored(wiring: Wiring, name: str, blocks: int, *scales: str) -> StoredWeight | None:
    tensor, codes = wiring.constant(name), wiring.array(name, 2)
    stored = None if tensor is None else _INTEGERS.get(tensor.data_type)
    if tensor is None or codes is None or stored is None:
        return None
    inner, outputs = codes.shape
    if blocks and inner % blocks:
        return None
    sizes = [_bytes(item) for scale in scales if (item := wiring.constant(scale)) is not None]
    block = inner // blocks if blocks else 0
    return StoredWeight(name, _narrowest(codes), stored, inner, outputs, block, _bytes(tensor), sum(sizes))


def _bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of the values, two 4-bit integers in each."""
    count = int(np.prod(tensor.dims, dtype=np.int64))
    if tensor.data_type == onnx.TensorProto.INT4:
        return (count + 1) // 2
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _narrowest(codes: NDArray[Any]) -> int:
    """The smallest width, from 2 bits, whose signed codes include all of ``codes``."""
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    return next(bits for bits in range(2, 9) if -(2 ** (bits - 1)) <= low and high < 2 ** (bits - 1))
