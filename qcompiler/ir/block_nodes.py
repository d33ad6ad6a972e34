"""The readable nodes of blocks, written and found again in one place: blocks of a token, and blocks of a weight.

A weight without blocks is found as one block with multiplier 1 and zero point 0, which is what the operators take it
for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from qcompiler.ir.constants import is_constant, producer
from qcompiler.ir.editing import Editor
from qcompiler.ir.functions import DOMAIN
from qcompiler.ir.integer_weights import integer_constant, integer_values


@dataclass(frozen=True)
class BlockNodes:
    """One quantizer in blocks of each token found in a graph: its input and the attributes of its operator."""

    x: gs.Tensor
    bits: int
    block: int
    clip: float
    slack: float
    rotate: int = 1

    @property
    def attributes(self) -> dict[str, int | float]:
        """The attributes as the fused operators take them."""
        return {
            "bits": self.bits,
            "block": self.block,
            "clip": self.clip,
            "slack": self.slack,
            "rotate": self.rotate,
        }


def add_block_quantizer(
    edit: Editor,
    x: gs.Tensor,
    bits: int,
    block: int,
    clip: float,
    slack: float,
    name: str,
    *,
    rotate: int = 1,
    shared: bool = False,
) -> gs.Variable:
    """Append BlockQuantizeLinear and BlockDequantizeLinear.

    Args:
        edit: Editor of the graph.
        x: Tensor to quantize ``[..., N, C]``.
        bits: Width of the codes.
        block: Channels of one block; divides C.
        clip: Share of a block's range that its codes cover.
        slack: Share of a step by which the range may exceed the codes before the multiplier goes up.
        name: Prefix of the new names.
        rotate: Channels that are rotated together first; what is read back stays rotated.
        shared: Whether the tokens of an instance have one scale.

    Returns:
        The tensor read back.
    """
    attributes = BlockNodes(x, bits, block, float(clip), float(slack), rotate).attributes | {"shared": int(shared)}
    # Codes, and of every block its multiplier and zero point, and of every token its scale.
    parts = edit.add_many("BlockQuantizeLinear", [x], f"{name}/QuantizeLinear", 4, attributes, domain=DOMAIN)
    parts[0].dtype = np.uint8
    return edit.add("BlockDequantizeLinear", parts, f"{name}/DequantizeLinear", domain=DOMAIN)


def find_block_quantizer(read_back: gs.Tensor, *, shared: bool = False) -> BlockNodes | None:
    """The quantizer in blocks that makes ``read_back``, with one scale per token or one ``shared`` by all, or None."""
    dequantize = _produced_by(read_back, "BlockDequantizeLinear")
    quantize = None if dequantize is None else _produced_by(dequantize.inputs[0], "BlockQuantizeLinear")
    if dequantize is None or quantize is None:
        return None
    if any(read is not made for read, made in zip(dequantize.inputs, quantize.outputs, strict=True)):
        return None
    if quantize.attrs["shared"] != int(shared):
        return None
    names = ("bits", "block", "clip", "slack", "rotate")
    return BlockNodes(quantize.inputs[0], *(quantize.attrs[name] for name in names))


@dataclass(frozen=True)
class WeightNodes:
    """One quantized weight ``scale * multiplier * (codes - zero_point)`` found in a graph.

    Attributes:
        codes: Its codes ``[C, D]``, int4 or int8.
        scale: Scale of each output ``[D]``.
        multiplier: Multiplier of each of K blocks of input channels and each output, float32 ``[K, D]``.
        zero_point: Likewise, int8.
    """

    codes: gs.Constant
    scale: gs.Constant
    multiplier: NDArray[np.float32]
    zero_point: NDArray[np.int8]

    def operand(self) -> NDArray[np.float32]:
        """``multiplier * (codes - zero_point)``, float32 ``[C, D]``."""
        codes = integer_values(self.codes).astype(np.float32)
        blocks = codes.reshape(len(self.multiplier), -1, codes.shape[1])
        return (self.multiplier[:, None] * (blocks - self.zero_point[:, None])).reshape(codes.shape)


def add_weight(
    edit: Editor,
    codes: NDArray[np.int8],
    bits: int,
    scale: NDArray[np.float32],
    blocks: tuple[NDArray[np.uint8], NDArray[np.int8]] | None,
    name: str,
) -> gs.Variable:
    """Append what reads a quantized weight back.

    That is a DequantizeLinear per output channel; with blocks a DequantizeLinear of blocks of input channels, and a Mul
    by the scale of the output.

    Args:
        edit: Editor of the graph.
        codes: Codes ``[C, D]``.
        bits: Width of the codes; up to 4 bits they are stored as int4.
        scale: Scale of each output ``[D]``.
        blocks: Multiplier and zero point ``[K, D]`` of each block, K dividing C; None for plain codes.
        name: Prefix of the new names.

    Returns:
        The weight read back, float32 ``[C, D]``.
    """
    stored = integer_constant(edit.free_name(f"{name}_quantized"), codes, bits)
    scales = edit.constant(f"{name}_scale", scale.astype(np.float32))
    if blocks is None:
        return edit.add("DequantizeLinear", [stored, scales], f"{name}_DequantizeLinear", {"axis": 1})
    multiplier = edit.constant(f"{name}_multiplier", blocks[0].astype(np.float32))
    # ONNX wants the zero point in the type of the codes.
    zero_point = integer_constant(edit.free_name(f"{name}_zero_point"), blocks[1], bits)
    attributes = {"axis": 0, "block_size": len(codes) // len(blocks[0])}
    units = edit.add("DequantizeLinear", [stored, multiplier, zero_point], f"{name}_DequantizeLinear", attributes)
    return edit.add("Mul", [units, scales], f"{name}_rescale")


def find_weight(read_back: gs.Tensor) -> WeightNodes | None:
    """The quantized weight, with or without blocks, that is read back as ``read_back``, or None."""
    plain = _produced_by(read_back, "DequantizeLinear")
    if plain is not None:
        return _plain_weight(plain)
    rescale = _produced_by(read_back, "Mul")
    dequantize = None if rescale is None else _produced_by(rescale.inputs[0], "DequantizeLinear")
    if rescale is None or dequantize is None or len(dequantize.inputs) != 3:
        return None
    (codes, multiplier, zero_point), scale = dequantize.inputs, rescale.inputs[1]
    if not is_constant(multiplier) or not is_constant(zero_point) or not _match(codes, scale):
        return None
    blocks, size = len(multiplier.values), dequantize.attrs.get("block_size", 0)
    if dequantize.attrs.get("axis", 1) != 0 or blocks * size != codes.shape[0]:
        return None
    return WeightNodes(codes, scale, multiplier.values, integer_values(zero_point))


def _plain_weight(dequantize: gs.Node) -> WeightNodes | None:
    if len(dequantize.inputs) != 2 or dequantize.attrs.get("axis", 1) != 1 or dequantize.attrs.get("block_size", 0):
        return None
    codes, scale = dequantize.inputs
    if not _match(codes, scale):
        return None
    one_block = (1, codes.shape[1])
    return WeightNodes(codes, scale, np.ones(one_block, np.float32), np.zeros(one_block, np.int8))


def _match(codes: gs.Tensor, scale: gs.Tensor) -> bool:
    """Whether both are constant, a matrix and one scale for each of its columns."""
    return is_constant(codes) and is_constant(scale) and len(codes.shape) == 2 and [*scale.shape] == [codes.shape[1]]


def _produced_by(tensor: gs.Tensor, op: str) -> gs.Node | None:
    node = producer(tensor)
    return node if node is not None and node.op == op else None
