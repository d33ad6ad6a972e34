"""What a model file tells about itself."""

import io
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from qcompiler.report.inspection import inspect_model
from qcompiler.report.inspection_text import inspection_facts, inspection_table
from qcompiler.report.metadata import LAYER_KEY
from qcompiler.report.recount import recount

from . import transformers
from .samples import MIXED, REPORT, float_model, lowered_model, readable_model


def shown(part):
    stream = io.StringIO()
    Console(file=stream, width=100_000, markup=False, emoji=False, highlight=False).print(part)
    return stream.getvalue()


def test_lowered_without_metadata():
    found = inspect_model(lowered_model())
    assert (found.form, found.opset, found.ir_version, found.producer) == ("lowered", 21, 10, "samples")
    assert found.operators == {
        "qcompiler.GroupLinear": 1,
        "qcompiler.GroupAttention": 2,
        "Add": 1,
        "qcompiler.LayerNormGroupLinear": 1,
    }
    assert found.report is None
    linear, attention, uniform, head = found.layers
    assert (linear.name, linear.op, linear.kind) == ("fc[1]", "GroupLinear", None)
    # The codes need 3 bits and lie in int4; 24 of them take 12 bytes.
    assert (linear.weight_bits, linear.stored, linear.weight_bytes, linear.activation_bits) == (3, "int4", 12, 4)
    assert (linear.scheme, linear.groups, linear.inner, linear.outputs) == ("channels", (8,), 4, 6)
    assert (attention.scheme, attention.groups, attention.weight_bits) == ("groups, codebook", (8, 2, 2, 8), None)
    assert (attention.activation_bits, attention.value_bits) == (4, 4)
    assert (uniform.scheme, uniform.groups) == ("groups, uniform", (8, 8, 2, 8))
    assert (head.scheme, head.groups, head.weight_bits, head.stored) == ("rows", (2,), 8, "int8")
    assert (head.weight_bytes, head.inner, head.outputs) == (6, 2, 3)
    assert all((layer.block, layer.rotate, layer.weight_block) == (0, 1, 0) for layer in found.layers)


def test_lowered_in_blocks():
    found = {layer.name: layer for layer in inspect_model(transformers.vit()).layers}
    assert list(found) == ["embed", "qkv", "attn", "proj", "fc1", "fc2", "head"]
    qkv, attention, proj = found["qkv"], found["attn"], found["proj"]
    assert (qkv.op, qkv.scheme, qkv.groups) == ("LayerNormBlockLinear", "blocks", ())
    assert (qkv.block, qkv.rotate, qkv.weight_block, qkv.activation_bits) == (4, 2, 2, 4)
    assert (qkv.weight_bits, qkv.stored, qkv.weight_bytes, qkv.inner, qkv.outputs) == (4, "int4", 96, 8, 24)
    assert (attention.op, attention.scheme, attention.groups) == ("BlockAttention", "blocks, codebook", (3,))
    assert (attention.activation_bits, attention.value_bits, attention.block, attention.rotate) == (4, 5, 4, 1)
    assert (attention.weight_bits, attention.stored, attention.inner) == (None, None, None)
    assert (proj.op, proj.weight_bits, proj.stored, proj.rotate) == ("BlockLinearAdd", 5, "int8", 8)
    assert (found["fc1"].op, found["fc1"].scheme) == ("LayerNormGroupLinearGelu", "channels")
    assert (found["fc2"].op, found["fc2"].scheme, found["fc2"].groups) == ("GroupLinearAdd", "segments", (5,))


def test_lowered_in_windows():
    found = {layer.name: layer for layer in inspect_model(transformers.windows()).layers}
    attention = found["attn"]
    assert (attention.op, attention.scheme, attention.groups) == ("GroupAttentionBias", "groups, uniform", (2, 1, 4, 3))
    assert (found["qkv"].scheme, found["qkv"].weight_block, found["embed"].scheme) == ("channels", 2, "rows")


def test_readable_in_blocks():
    found = inspect_model(transformers.readable())
    assert found.form == "readable"
    fc, scores = found.layers
    assert (fc.name, fc.op, fc.scheme, fc.groups) == ("fc", "MatMul", "blocks", ())
    assert (fc.block, fc.rotate, fc.weight_block, fc.activation_bits) == (4, 2, 2, 4)
    assert (fc.weight_bits, fc.stored, fc.weight_bytes, fc.inner, fc.outputs) == (4, "int4", 32, 8, 8)
    assert (scores.name, scores.scheme, scores.groups) == ("scores", "blocks x blocks", ())
    assert (scores.activation_bits, scores.value_bits, scores.weight_bits, scores.block) == (3, None, None, 2)


@pytest.mark.parametrize("name", ["num_heads", "v_bits", "block"])
def test_a_node_without_its_attributes_is_no_layer(name):
    model = transformers.vit()
    node = next(node for node in model.graph.node if node.name == "attn")
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    assert "attn" not in [layer.name for layer in inspect_model(model).layers]


def test_metadata_tells_more():
    found = inspect_model(lowered_model(REPORT))
    linear = found.layers[0]
    assert (linear.kind, linear.weight_bits, linear.products) == ("fc1", 4, 21_823_488)
    assert (linear.relevance, linear.sensitivity) == (None, None)
    assert found.layers[1].kind is None
    assert found.report is not None
    assert found.report.version == "1.2.3"


def test_measures_in_the_metadata():
    model = transformers.vit()
    node = next(node for node in model.graph.node if node.name == "qkv")
    node.metadata_props.add(key=LAYER_KEY, value=json.dumps(asdict(MIXED.layers[1])))
    found = inspect_model(model)
    qkv = found.layers[1]
    assert (qkv.kind, qkv.relevance, qkv.sensitivity) == ("qkv", 0.125, 0.00421)
    rows = shown(inspection_table(found)).splitlines()
    assert rows[2].split()[-3:] == ["relevance", "KL", "alone"]
    row = next(line for line in rows if line.strip().startswith("qkv"))
    assert "blocks 4, rotate 2; weight blocks 2" in row
    assert row.split()[-4:] == ["M", "12.5", "%", "0.00421"]
    plain = shown(inspection_table(inspect_model(transformers.vit()))).splitlines()
    assert plain[2].split()[-1] == "products"
    assert next(line for line in plain if line.strip().startswith("attn")).split()[-7:] == [
        *("codebook", "-", "4/5", "3", "-", "-", "-")
    ]


def test_readable_form():
    found = inspect_model(readable_model())
    assert found.form == "readable"
    linear, scores = found.layers
    assert (linear.name, linear.op, linear.scheme, linear.groups) == ("fc1", "MatMul", "segments", (5,))
    assert (linear.weight_bits, linear.activation_bits, linear.inner, linear.outputs) == (4, 4, 4, 6)
    assert (scores.name, scores.scheme, scores.groups) == ("scores", "rows x columns", (2, 2))
    assert (scores.weight_bits, scores.activation_bits) == (None, 6)


def test_float_model():
    found = inspect_model(float_model())
    assert (found.form, found.layers, found.recount, found.report) == ("float", (), None, None)
    text = shown(inspection_facts(found, Path("m.onnx"), 1234))
    assert "float: no quantized layers" in text
    assert "provenance  none recorded" in text
    assert "1.23 kB" in text


def test_text_with_and_without_metadata():
    plain = inspect_model(lowered_model())
    rows = shown(inspection_table(plain))
    assert "fc[1]" in rows
    assert "12 B int4" in rows
    text = shown(inspection_facts(inspect_model(lowered_model(REPORT)), Path("m.onnx"), 1))
    for part in ("qcompile 1.2.3: igq, w4a4", "group_candidates 1/8", "bits -", "ab" * 32, "0.2500 of W8A8"):
        assert part in text


def test_recomputed_budgets():
    model = transformers.vit()
    found = inspect_model(model)
    assert found.recount == recount(model)
    text = shown(inspection_facts(found, Path("m.onnx"), 1))
    (line,) = (line for line in text.splitlines() if line.startswith("recomputed"))
    # Both fractions by hand, from the table of test_recount.
    products = 768 * 16 + 128 * 16 + 128 * 25 + 256 * 30 + 512 * 9 + 512 * 8
    bookkeeping = 32 * (648 + 176 + 132 + 96 + 304)
    whole = 64 * (768 + 256 + 256 + 512 + 512)
    assert f"products {products / whole:.4f} of W8A8, bookkeeping {bookkeeping / products:.4f} of the products" in line
    assert "activations  float32" in text
    assert "weights      344 B in integers, 751 B with their scales and blocks" in text
    assert line.rstrip().endswith(f"{model.ByteSize() / 1000:.1f} kB")


def test_budgets_that_cannot_be_recomputed():
    model = transformers.windows()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "tokens"
    found = inspect_model(model)
    assert found.recount is None
    assert "not possible: the file does not fix" in shown(inspection_facts(found, Path("m.onnx"), 1))


def test_measured_loss_of_the_plan():
    assert "KL 0.0375 nats" in shown(inspection_facts(inspect_model(lowered_model(MIXED)), Path("m.onnx"), 1))


def test_to_dict_is_json():
    for model in (lowered_model(REPORT), readable_model(), float_model(), transformers.vit()):
        found = inspect_model(model)
        assert json.loads(json.dumps(found.to_dict()))["form"] == found.form
