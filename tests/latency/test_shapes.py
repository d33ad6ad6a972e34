"""What a lowered operator takes in, told from the canonical graph, against what the passes really fuse."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import qcompiler.models
from qcompiler.driver import compile_model
from qcompiler.driver.canonical import canonicalise
from qcompiler.latency.shapes import AttentionShape, LinearShape, attention_shape, linear_shapes
from tests.driver.runs import fast
from tests.driver.tiny import images, tiny

DIGITS = Path(qcompiler.models.__file__).parent / "digits_vit.onnx"


@pytest.fixture(scope="module")
def structure():
    return canonicalise(tiny()).structure


def test_of_a_small_model(structure):
    assert linear_shapes(structure) == {
        "patch.proj": LinearShape(1, 4, 16, 16),
        "attn.qkv": LinearShape(1, 4, 16, 48, norm=True),
        "attn.proj": LinearShape(1, 4, 16, 16, residual=True),
        "mlp.fc1": LinearShape(1, 4, 16, 32, norm=True, gelu="none"),
        "mlp.fc2": LinearShape(1, 4, 32, 16, residual=True),
        "head": LinearShape(1, 1, 16, 5),
    }
    assert [attention_shape(block) for block in structure.attentions] == [AttentionShape(1, 4, 2, 8)]


def test_as_the_passes_fuse_it(tmp_path):
    """Every layer's operator has the parts that its shape says."""
    np.savez(tmp_path / "c.npz", x=images(16))
    result = compile_model(tiny(), fast(bits="w4a4", effort="low"), tmp_path / "c.npz")
    operators = {node.name: node.op_type for node in result.model.graph.node}
    for name, shape in linear_shapes(canonicalise(tiny()).structure).items():
        found = operators[name]
        assert found.startswith("LayerNorm") == shape.norm, name
        assert found.endswith("Gelu") == (shape.gelu is not None), name
        assert found.endswith("Add") == shape.residual, name


def test_of_the_shipped_model():
    shapes = linear_shapes(canonicalise(onnx.load(DIGITS)).structure)
    assert len(set(shapes.values())) == 9  # of 18 layers
    assert shapes["blocks.2.mlp.fc1"] == LinearShape(1, 37, 96, 384, norm=True, gelu="none")
    assert shapes["blocks.2.mlp.fc1"].macs == 37 * 96 * 384
    assert shapes["blocks.3.mlp.fc1"] == LinearShape(1, 1, 96, 384, norm=True, gelu="none")  # of the class token
