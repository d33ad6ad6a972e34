"""What a model file tells about itself."""

import io
import json
from pathlib import Path

from rich.console import Console

from qcompiler.report.inspection import inspect_model
from qcompiler.report.inspection_text import inspection_facts, inspection_table

from .samples import REPORT, float_model, lowered_model, readable_model


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
    assert (attention.scheme, attention.groups, attention.weight_bits) == ("codebook", (8, 2, 2, 8), None)
    assert (uniform.scheme, uniform.groups) == ("uniform", (8, 8, 2, 8))
    assert (head.scheme, head.groups, head.weight_bits, head.stored) == ("rows", (2,), 8, "int8")
    assert (head.weight_bytes, head.inner, head.outputs) == (6, 2, 3)


def test_metadata_tells_more():
    found = inspect_model(lowered_model(REPORT))
    linear = found.layers[0]
    assert (linear.kind, linear.weight_bits, linear.products) == ("fc1", 4, 21_823_488)
    assert found.layers[1].kind is None
    assert found.report is not None
    assert found.report.version == "1.2.3"


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
    assert (found.form, found.layers, found.report) == ("float", (), None)
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


def test_to_dict_is_json():
    for model in (lowered_model(REPORT), readable_model(), float_model()):
        found = inspect_model(model)
        assert json.loads(json.dumps(found.to_dict()))["form"] == found.form
