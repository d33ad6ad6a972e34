"""Integer weights as initialisers: int4 where the width allows it, so that the file really shrinks."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx_graphsurgeon.ir.tensor import LazyValues

WIDEST_INT4 = 4


def packed_int4(codes: NDArray[np.int8]) -> bytes:
    """Two codes per byte in two's complement, the earlier one low; an odd count ends with a zero nibble."""
    nibbles = codes.ravel().view(np.uint8) & 0x0F
    if len(nibbles) % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    return bytes((nibbles[0::2] | nibbles[1::2] << 4).tobytes())


def integer_constant(name: str, codes: NDArray[np.int8], bits: int) -> gs.Constant:
    """An initialiser for weight codes, stored as int4 up to 4 bits and as int8 above.

    Args:
        name: Name of the initialiser.
        codes: Codes, any shape, within ``[-(2**(bits-1)), 2**(bits-1) - 1]``.
        bits: Width of the codes.
    """
    if bits > WIDEST_INT4:
        return gs.Constant(name, np.ascontiguousarray(codes))
    tensor = onnx.helper.make_tensor(name, onnx.TensorProto.INT4, codes.shape, packed_int4(codes), raw=True)
    # graphsurgeon has no packed int4 array: the tensor is carried as if still unread from a file, and must stay so.
    return gs.Constant(name, LazyValues(tensor))


def integer_values(constant: gs.Constant) -> NDArray[np.int8]:
    """The codes of such an initialiser; how it will be written does not change."""
    return constant.copy().values.astype(np.int8)  # the copy is read, the original stays unread
