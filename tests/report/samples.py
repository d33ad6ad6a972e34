"""A report and models with known content."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qcompiler.ir.functions import functions_for
from qcompiler.ir.passes import PassReport, Refusal
from qcompiler.quant.bops import BitOperations
from qcompiler.report.metadata import LAYER_KEY, REPORT_KEY
from qcompiler.report.values import CompileReport, LayerReport

# Longer than any terminal of the tests is wide.
LONG_NAME = "encoder.layers." + ".".join(f"block{number}" for number in range(12)) + ".mlp.fc1"

LAYERS = (
    LayerReport("patch[proj]", "patch_embed", 8, 8, "rows", (1,), 36, 16, 96, 3_538_944, 46_080, True),
    LayerReport(LONG_NAME, "fc1", 4, 4, "channels", (8,), 37, 96, 384, 21_823_488, 252_192, False),
    LayerReport(
        *("blocks.0.attn", "attention", None, 4, "groups, codebook", (8, 4, 2, 16), 37, 32, 37, 4_206_480, 314_112),
        fixed=False,
        value_bits=4,
    ),
)

REPORT = CompileReport(
    version="1.2.3",
    method="igq",
    widths="w4a4",
    options={"method": "igq", "first_last_bits": 8, "group_candidates": [1, 8], "bits": None},
    calibration={
        "kind": "images",
        "description": "128 images of photos",
        "count": 128,
        "sha256": "ab" * 32,
        "preprocessing": {"mean": [0.5, 0.5, 0.5], "resize": 248},
    },
    layers=LAYERS,
    bops=BitOperations(26_029_968, 566_304, 3_585_024, 104_119_872, 1_669_000_000),
    passes=(
        PassReport("fuse_gelu", 4, (), 142, 126),
        PassReport("fuse_epilogue", 12, (Refusal("head", "its result has several readers", "2"),), 49, 37),
    ),
    bytes_before=22_900_000,
    bytes_after=4_122_000,
    agreement={"images": 128, "agreement": 96.09, "agreement_se": 1.71, "kl": 0.0421, "relative_error": 0.113},
    warnings=(),
    seconds={"calibrate": 30.0, "plan": 12.3},
)

# A plan of mixed widths with blocks, relevance and sensitivity, that was tried out.
MIXED = replace(
    REPORT,
    method="auto",
    widths="mixed, w4.12a3.90 on average",
    layers=(
        LAYERS[0],
        LayerReport(
            *("blocks.0.qkv", "qkv", 4, 3, "blocks", (), 37, 96, 288, 12_000_000, 1_000_000),
            fixed=False,
            block=32,
            rotate=16,
            weight_block=32,
            effective_weight_bits=4.25,
            effective_activation_bits=3.258,
            relevance=0.125,
            sensitivity=0.00421,
        ),
        LayerReport(
            *("blocks.0.attn", "attention", None, 4, "blocks, uniform", (8,), 37, 32, 37, 4_206_480, 314_112),
            fixed=False,
            value_bits=5,
            block=32,
            effective_activation_bits=4.0,
            relevance=0.5,
        ),
        replace(LAYERS[1], name="blocks.0.fc1", effective_weight_bits=4.0, effective_activation_bits=4.0),
        replace(LAYERS[1], name="blocks.1.fc1"),
    ),
    loss=0.0375,
)

STOPPED = replace(REPORT, layers=(), agreement=None)


def groups(name: str, count: int, *, exact: bool = False) -> TensorProto:
    """A group table."""
    table = np.ones((count, 6), np.float32)
    table[:, 2] = table[:, 4] = np.linspace(0.1, 0.5, count) if exact else 1
    return numpy_helper.from_array(table, name)


def weight(name: str, inner: int, outputs: int, stored: int, limit: int) -> TensorProto:
    """Weight codes in -limit-1 .. limit."""
    codes = np.resize(np.arange(-limit - 1, limit + 1), (inner, outputs))
    return helper.make_tensor(name, stored, codes.shape, codes.ravel())


def weight_blocks(name: str, blocks: int, outputs: int, byte: int = 0x18) -> TensorProto:
    """Multiples and zero points of the blocks of a weight; without an argument those of plain codes."""
    return numpy_helper.from_array(np.full((blocks, outputs), byte, np.uint8), name)


def lowered_model(report: CompileReport | None = None) -> onnx.ModelProto:
    """A linear layer with 3-bit codes in int4, one with a LayerNorm in front and 8-bit codes, and attention."""
    constants = [
        weight("W1", 4, 6, TensorProto.INT4, 3),
        weight("W2", 2, 3, TensorProto.INT8, 127),
        weight_blocks("plain6", 1, 6),
        weight_blocks("plain3", 1, 3),
        groups("g8", 8),
        groups("g2", 2),
        numpy_helper.from_array(np.arange(16, dtype=np.uint8), "uniform"),
        numpy_helper.from_array(np.array([0, 3, 127], np.uint8), "codebook"),
        *(numpy_helper.from_array(np.ones(size, np.float32), f"ones{size}") for size in (2, 3, 6)),
    ]
    qkv = {"num_heads": 1, "scale": 1.0, "bits": 4, "domain": "qcompiler"}
    linear = {"axis": -1, "segments": 0, "normalize": 1, "domain": "qcompiler"}
    norm = ["ones2", "ones2", "W2", "ones3", "plain3", "g2", "ones3"]
    first = ["x", "W1", "ones6", "plain6", "g8", "ones6"]
    nodes = [
        helper.make_node("GroupLinear", first, ["y"], "fc[1]", bits=4, **linear),
        helper.make_node("GroupAttention", ["y", "g8", "g2", "g2", "g8", "codebook"], ["a"], "attn", **qkv),
        helper.make_node("GroupAttention", ["y", "g8", "g8", "g2", "g8", "uniform"], ["b"], "attn2", **qkv),
        helper.make_node("Add", ["a", "b"], ["c"], "sum"),
        helper.make_node(
            "LayerNormGroupLinear", ["c", *norm], ["z"], "head", bits=8, epsilon=1e-6, **{**linear, "axis": -2}
        ),
    ]
    if report is not None:
        fc = replace(report.layers[1], name="fc[1]", weight_bits=4)
        nodes[0].metadata_props.add(key=LAYER_KEY, value=json.dumps(asdict(fc)))
    return _model(nodes, constants, [1, 5, 4], [1, 5, 3], report)


def readable_model() -> onnx.ModelProto:
    """A quantized linear layer with free scales behind normalised rows, and a product of two activations."""
    constants = [
        weight("W", 4, 6, TensorProto.INT4, 7),
        numpy_helper.from_array(np.ones(6, np.float32), "ones6"),
        groups("g5", 5, exact=True),
        groups("g2", 2),
        numpy_helper.from_array(np.array([0, 3, 127], np.uint8), "codebook"),
    ]

    def node(op: str, inputs: list[str], outputs: list[str], **attributes: object) -> onnx.NodeProto:
        return helper.make_node(op, inputs, outputs, f"{outputs[0]}/{op}", domain="qcompiler", **attributes)

    def quantizer(x: str, table: str, axis: int, bits: int, *, codebook: bool = False) -> list[onnx.NodeProto]:
        codes, more = f"{x}_codes", []
        if codebook:
            more = [
                helper.make_node("Cast", [codes], [f"{x}_index64"], to=TensorProto.INT64),
                helper.make_node("Gather", ["codebook", f"{x}_index64"], [f"{x}_operands"], axis=0),
            ]
        return [
            node("GroupSort", [x, table], [f"{x}_index"], axis=axis),
            node("GroupQuantizeLinear", [x, f"{x}_index", table], [codes], bits=bits),
            *more,
            node("GroupDequantizeLinear", [f"{x}_operands" if codebook else codes, f"{x}_index", table], [f"{x}_read"]),
        ]

    nodes = [
        node("RowNorm", ["x"], ["n", "r"], normalize=1),
        *quantizer("n", "g5", -1, 4),
        helper.make_node("Mul", ["n_read", "r"], ["x_read"]),
        helper.make_node("DequantizeLinear", ["W", "ones6"], ["W_read"], axis=1),
        helper.make_node("MatMul", ["x_read", "W_read"], ["y"], "fc1"),
        helper.make_node("Transpose", ["y"], ["t"], perm=[0, 2, 1]),
        *quantizer("t", "g2", -1, 6),
        *quantizer("y", "g2", -2, 6, codebook=True),
        helper.make_node("MatMul", ["y_read", "t_read"], ["z"], "scores"),
    ]
    return _model(nodes, constants, [1, 5, 4], [1, 5, 5], None)


def float_model(batch: int | str = "batch", classes: int = 3, seed: int = 0) -> onnx.ModelProto:
    """Images [batch, 1, 2, 2] -> logits [batch, classes]."""
    draw = np.random.default_rng(seed)
    constants = [
        numpy_helper.from_array(draw.standard_normal((4, classes)).astype(np.float32), "W"),
        numpy_helper.from_array(np.array([-1, 4], np.int64), "flat"),
    ]
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["v"], "flatten"),
        helper.make_node("MatMul", ["v", "W"], ["z"], "product"),
    ]
    return _model(nodes, constants, [batch, 1, 2, 2], [batch, classes], None)


def _model(
    nodes: list[onnx.NodeProto],
    constants: list[TensorProto],
    reads: list[int | str],
    gives: list[int | str],
    report: CompileReport | None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "sample",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, reads)],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, gives)],
        constants,
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("qcompiler", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10, producer_name="samples")
    model.functions.extend(functions_for(node.op_type for node in nodes if node.domain == "qcompiler"))
    if report is not None:
        content = report.to_dict()
        for absent in ("seconds", "passes", "bytes_after", "size_ratio"):
            content.pop(absent)
        model.metadata_props.add(key=REPORT_KEY, value=json.dumps(content))
    onnx.checker.check_model(model)
    return model
