"""Lower quantized linear layers onto the fused operators of the runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from qcompiler.ir.block_nodes import WeightNodes, find_block_quantizer, find_weight
from qcompiler.ir.constants import is_constant, producer
from qcompiler.ir.editing import Editor
from qcompiler.ir.functions import DOMAIN
from qcompiler.ir.group_nodes import GroupQuantizer, find_group_quantizer
from qcompiler.ir.passes import Pass
from qcompiler.quant.groups import OPERAND_LIMIT, GroupTable
from qcompiler.quant.weight_grid import MOST_MULTIPLE, WeightBlocks

_SMALLEST_ZERO, _LARGEST_ZERO = -8, 7  # a nibble


class LowerLinears(Pass):
    """Replaces the readable nodes of a linear layer by one `GroupLinear` or `BlockLinear`.

    **Before**: `MatMul(X^, W^)` with
      1. `X^ = norm * GroupDequantizeLinear(...)` and `norm` from `RowNorm`,
      2. `X^ = GroupDequantizeLinear(...)`, or
      3. `X^ = BlockDequantizeLinear(...)`;
      4. `W^ = DequantizeLinear(W, w_scale)`, or
      5. `W^ = DequantizeLinear(W, multiplier, zero_point; block_size) * w_scale`;
      6. and, where it is there, an `Add` of a constant bias as its only reader.

    **After**
      1, 2. `GroupLinear(X, W, w_scale, w_blocks, groups, bias)`.
      3. `BlockLinear(X, W, w_scale, w_blocks, bias)`.
      4. In both `w_blocks` is one block with multiplier 1 and zero point 0.
      5. In both `w_blocks` holds multipliers and zero points, a byte for each block and output.
      6. Without a bias it is zeros, because a function body cannot leave an input out.

    **Leaves alone**
      7. A MatMul whose input is not quantized like this.
      8. A MatMul whose weight is not quantized like this.
      9. A weight whose multiplier or zero point does not fit `w_blocks`: the former in 1 to 15, the latter in -8 to 7.
      10. A weight with an operand `multiplier * (W - zero_point)` beyond +-127: the operators would clip it.
    """

    def apply(self, graph: gs.Graph) -> bool:
        edit = Editor(graph)
        for node in [node for node in graph.nodes if node.op == "MatMul"]:
            if not _is_read_back(node.inputs[1]):
                continue  # 8: float products are not this pass's business
            weight = find_weight(node.inputs[1])
            source = _block_source(node.inputs[0]) or _group_source(node.inputs[0])
            if weight is None:
                self.refuse(node, "its weight is not integers with one scale per output", node.inputs[1].name)  # 8
            elif source is None:
                self.refuse(node, "its input is not the result of one quantizer", node.inputs[0].name)  # 7
            elif (misfit := _misfit(weight)) is not None:
                self.refuse(node, "a block of its weight has a multiplier or zero point that is no nibble", misfit)  # 9
            elif (largest := np.abs(weight.operand()).max()) > OPERAND_LIMIT:
                self.refuse(node, "an operand of its weight does not fit a signed byte", largest)  # 10
            else:
                self._lower(edit, node, weight, source)
                self.applied += 1
        return self.applied > 0

    def _lower(self, edit: Editor, node: gs.Node, weight: WeightNodes, source: _Source) -> None:
        result = node.outputs[0]
        bias: gs.Tensor | None = None
        if len(result.outputs) == 1 and result.outputs[0].op == "Add" and is_constant(result.outputs[0].inputs[1]):
            add = result.outputs[0]  # 6
            if add.inputs[1].values.shape == weight.scale.values.shape:
                bias, result = add.inputs[1], add.outputs[0]
        if bias is None:
            bias = edit.constant(f"{node.name}.bias", np.zeros(weight.scale.values.shape, np.float32))
        w_blocks = edit.constant(f"{node.name}.blocks", _packed(weight))  # 4, 5
        inputs = [source.x, weight.codes, weight.scale, w_blocks, *source.tables, bias]
        name = node.name
        node.name = edit.free_name(f"{name}/replaced")  # the fused node keeps the layer's name
        lowered = edit.add(source.op, inputs, f"{name}/lowered", source.attributes, domain=DOMAIN)
        lowered.inputs[0].name = name
        lowered.shape = result.shape
        edit.replace(result, lowered)


@dataclass(frozen=True)
class _Source:
    """What a quantizer in front of a MatMul makes of it: the operator, its input, its tables and its attributes."""

    op: str
    x: gs.Tensor
    tables: tuple[gs.Constant, ...]
    attributes: dict[str, Any]


def _block_source(tensor: gs.Tensor) -> _Source | None:
    found = find_block_quantizer(tensor)  # 3
    return None if found is None else _Source("BlockLinear", found.x, (), found.attributes)


def _group_source(tensor: gs.Tensor) -> _Source | None:
    rescale = producer(tensor)
    if rescale is not None and rescale.op == "Mul":  # 1
        found = find_group_quantizer(rescale.inputs[0])
        norm = producer(rescale.inputs[1])
        if found is None or norm is None or norm.op != "RowNorm" or found.x is not norm.outputs[0]:
            return None
        return _grouped(found, norm.inputs[0], normalize=1)
    found = find_group_quantizer(tensor)  # 2
    return None if found is None else _grouped(found, found.x, normalize=0)


def _grouped(found: GroupQuantizer, x: gs.Tensor, normalize: int) -> _Source | None:
    if found.levels is not None:
        return None
    table = GroupTable.from_array(found.groups.values, found.axis, found.bits)
    attributes = {"bits": found.bits, "axis": found.axis, "segments": int(table.exact), "normalize": normalize}
    return _Source("GroupLinear", x, (found.groups,), attributes)


def _is_read_back(tensor: gs.Tensor) -> bool:
    node = producer(tensor)
    if node is not None and node.op == "Mul":
        node = producer(node.inputs[0])
    return node is not None and node.op == "DequantizeLinear"


def _misfit(weight: WeightNodes) -> tuple[float, int] | None:
    """The first multiplier and zero point that do not share a byte, or None."""
    multiplier, zero = weight.multiplier, weight.zero_point
    fits = (multiplier == np.rint(multiplier)) & (multiplier >= 1) & (multiplier <= MOST_MULTIPLE)
    fits &= (zero >= _SMALLEST_ZERO) & (zero <= _LARGEST_ZERO)
    if fits.all():
        return None
    first = np.unravel_index(int(np.argmin(fits)), fits.shape)
    return float(multiplier[first]), int(zero[first])


def _packed(weight: WeightNodes) -> NDArray[np.uint8]:
    return WeightBlocks(weight.multiplier.astype(np.uint8), weight.zero_point).packed()
