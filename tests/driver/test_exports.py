"""One model in the spellings of many exporters: all are compiled to the same layers and the same results."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import qcompiler.models
from qcompiler.driver import compile_model
from qcompiler.errors import UnsupportedModelError

from . import exports
from .runs import fast, plain, relative
from .tiny import images, tiny

OPTIONS = {"bits": "w8a8", "method": "igq", "group_candidates": (1,)}
DIGITS = Path(qcompiler.models.__file__).with_name("digits_vit.onnx")


class Reader:
    """Images, and a value of zero for every other input."""

    def __init__(self, model, count=8):
        more = {item.name: np.zeros((1, 5), np.float32) for item in model.graph.input if item.name != "x"}
        self.feeds = [{"x": image[None], **more} for image in images(count)]
        self.rewind()

    def get_next(self):
        return next(self.rest, None)

    def rewind(self):
        self.rest = iter(self.feeds)


def compiled(model):
    return compile_model(model, fast(**OPTIONS), Reader(model))


@pytest.fixture(scope="module")
def reference():
    """What the plain spelling becomes, and its output."""
    result = compiled(tiny())
    return result.report, plain(result.model, {"x": images(4, seed=9)})


def shapes(report):
    return [(layer.kind, layer.tokens, layer.inner, layer.outputs) for layer in report.layers]


EXACT = {
    **{f"opset {version}": exports.at_opset(version) for version in range(13, 27)},
    "constants": exports.constant_nodes,
    "identities": exports.identity_aliases,
    "gemms": exports.gemms,
    "hugging face": exports.hugging_face,
}


@pytest.mark.parametrize("rewrite", EXACT.values(), ids=EXACT)
def test_another_spelling_of_the_same_model(rewrite, reference):
    """Equal weights and equal layers make equal plans: only the order of float operations may differ."""
    model = rewrite(tiny())
    onnx.checker.check_model(model, full_check=True)
    result = compiled(model)
    report, expected = reference
    assert shapes(result.report) == shapes(report)
    assert result.report.coverage.share == 1
    assert relative(plain(result.model, {"x": images(4, seed=9)}), expected) < 2e-3


def test_hugging_face_names_stay():
    names = {layer.name for layer in compiled(exports.hugging_face(tiny())).report.layers}
    assert "vit.encoder.layer.0.intermediate.dense" in names
    assert "classifier" in names


@pytest.mark.parametrize("outside", [True, False], ids=["inputs too", "casts"])
@pytest.mark.parametrize(("kind", "name"), [(TensorProto.FLOAT16, "float16"), (TensorProto.BFLOAT16, "bfloat16")])
def test_half_precision(kind, name, outside, reference):
    # Convolutions in bfloat16 came with opset 22.
    model = exports.halved(kind, outside)(exports.at_opset(22)(tiny()))
    onnx.checker.check_model(model, full_check=True)
    result = compiled(model)
    assert shapes(result.report) == shapes(reference[0])
    assert any(f"is in {name}: it was converted to float32" in text for text in result.report.warnings)
    assert result.model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    found = plain(result.model, {"x": images(4, seed=9)})
    assert found.dtype == np.float32
    # The weights were rounded to 11 or 8 significant bits.
    assert relative(found, reference[1]) < (0.02 if kind == TensorProto.FLOAT16 else 0.06)


def test_several_inputs_and_outputs(reference):
    model = exports.several(tiny())
    result = compiled(model)
    assert shapes(result.report) == shapes(reference[0])
    assert [item.name for item in result.model.graph.output] == ["logits", "pooled", "n3"]
    prior = np.arange(20, dtype=np.float32).reshape(4, 5)
    found = plain(result.model, {"x": images(4, seed=9), "prior": prior})
    # One percent is the correction of the reference's predictions; here something is added to them, and they have none.
    assert relative(found - prior, reference[1]) < 2e-2


@pytest.mark.parametrize("text", [exports.IF, exports.LOOP], ids=["If", "Loop"])
def test_subgraphs_are_kept(text, reference):
    model = exports.closing(text)(tiny())
    result = compiled(model)
    # Behind the head is no output but a subgraph.
    assert shapes(result.report) == [*shapes(reference[0])[:-1], ("other", 1, 16, 5)]
    kept = [node.op_type for node in model.graph.node if node.op_type in ("If", "Loop")]
    assert [node.op_type for node in result.model.graph.node if node.op_type in ("If", "Loop")] == kept
    feed = {"x": images(4, seed=9)}
    assert relative(plain(result.model, feed), plain(model, feed)) < 0.03


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
def test_optimised_by_onnx_runtime(level, tmp_path, reference):
    model = exports.optimised(level, tmp_path)(tiny())
    fused = {node.op_type for node in model.graph.node if node.domain == "com.microsoft"}
    assert bool(fused) == (level == "EXTENDED")
    result = compiled(model)
    assert shapes(result.report) == shapes(reference[0])
    assert relative(plain(result.model, {"x": images(4, seed=9)}), reference[1]) < 2e-3


def test_blocked_layouts_of_onnx_runtime_are_refused(tmp_path):
    model = exports.optimised("ALL", tmp_path)(tiny())
    if all(node.domain != "com.microsoft.nchwc" for node in model.graph.node):
        pytest.skip("ONNX Runtime does not block convolutions on this processor")
    with pytest.raises(UnsupportedModelError, match=r"'Conv' of domain 'com\.microsoft\.nchwc'"):
        compiled(model)


def test_a_trained_model_optimised_by_onnx_runtime(tmp_path):
    model = exports.optimised("EXTENDED", tmp_path)(onnx.load(DIGITS))
    options = fast(bits="w8a8", method="igq", stop_after="canonicalise")
    found = compile_model(model, options, DIGITS.with_name("digits_vit.calib.npz")).model
    assert sum(node.op_type == "Gelu" for node in found.graph.node) == 4
    assert all(node.domain == "" for node in found.graph.node)
