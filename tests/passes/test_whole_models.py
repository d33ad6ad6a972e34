"""Whole models through all CANONICALISE passes: by hand, and as torch's two exporters write them."""

import functools
from collections import Counter

import numpy as np
import onnx
import pytest

from qcompiler.ir.importing import to_graph
from qcompiler.ir.loading import load_model
from qcompiler.ir.passes import run_passes
from qcompiler.ir.printer import print_graph
from qcompiler.ir.saving import to_model
from qcompiler.ir.structure import find_structure
from qcompiler.ir.verifier import verify
from qcompiler.passes import CANONICALISE

from .helpers import run, weight
from .small_models import small_vit

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 10}
SWIN = {
    "patch_size": 4,
    "embed_dim": 16,
    "depths": (2, 2),
    "num_heads": (1, 2),
    "num_classes": 10,
}
MODELS = {
    "vit": ("vit", VIT, 32, 2, 0),
    "vit with LayerScale": ("vit", VIT | {"init_values": 0.5}, 32, 2, 0),
    "vit with registers": ("vit", VIT | {"reg_tokens": 2, "no_embed_class": True}, 32, 2, 0),
    "vit with mean pooling": ("vit", VIT | {"global_pool": "avg", "class_token": False}, 32, 2, 0),
    "swin": ("swin", SWIN | {"img_size": 64, "window_size": 4}, 64, 4, 1),
    "swin with padded windows": ("swin", SWIN | {"img_size": 48, "window_size": 5}, 48, 4, 1),
}
# Exporter (the one based on torch.export or the older one), and whether the batch is symbolic.
EXPORTS = {
    "legacy": (False, True),
    "legacy, fixed batch": (False, False),
    "dynamo": (True, True),
    "dynamo, fixed batch": (True, False),
}
CASES = [
    *(("vit", export) for export in EXPORTS),
    *(("swin", export) for export in ("legacy", "legacy, fixed batch", "dynamo")),
    ("vit with LayerScale", "legacy"),
    ("vit with registers", "dynamo"),
    ("vit with mean pooling", "legacy"),
    ("swin with padded windows", "legacy"),
]


def canonicalise(model):
    graph = to_graph(model)
    run_passes(graph, [item() for item in CANONICALISE], verify_each=True)
    verify(graph, "canonical")
    return graph


def check_agreement(model, graph, shape, batches):
    after = to_model(graph)
    onnx.checker.check_model(after, full_check=True)
    for batch in batches:
        feed = {"x": weight(batch, *shape, seed=batch)}
        expected, got = run(model, feed)[0], run(after, feed)[0]
        # 1e-5 of the norm: what the order of float32 sums and the place of the scale change stays far below.
        assert np.linalg.norm(got - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("batch", ["batch", "1", "2"])
def test_hand_written_vit(batch):
    model = small_vit(batch)
    graph = canonicalise(model)
    check_agreement(model, graph, (3, 4, 4), [1, 3] if batch == "batch" else [int(batch)])


def test_all_passes_twice_change_nothing():
    graph = canonicalise(small_vit())
    before = print_graph(graph)
    reports = run_passes(graph, [item() for item in CANONICALISE])
    assert [report.name for report in reports if report.applied] == []
    assert print_graph(graph) == before


def test_same_bytes_twice():
    first, second = (to_model(canonicalise(small_vit())).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_input_is_not_changed():
    model = small_vit()
    content = model.SerializeToString(deterministic=True)
    canonicalise(model)
    assert model.SerializeToString(deterministic=True) == content


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function from (model, export) to the loaded ONNX model."""
    pytest.importorskip("torch", reason="exporting needs torch")
    from . import exporting

    try:
        timm = exporting.import_timm()
    except ImportError:
        pytest.skip("exporting needs timm's models")
    kinds = {
        "vit": timm.models.vision_transformer.VisionTransformer,
        "swin": timm.models.swin_transformer.SwinTransformer,
    }

    @functools.cache
    def export(name, how):
        kind, options, size, _, _ = MODELS[name]
        path = tmp_path_factory.mktemp("export") / "model.onnx"
        dynamo, symbolic = EXPORTS[how]
        exporting.export(exporting.randomise(kinds[kind](**options)), str(path), size, dynamo, symbolic)
        return load_model(path)

    return export


@pytest.mark.slow
@pytest.mark.parametrize(("name", "how"), CASES)
def test_exported_models(exported, name, how):
    model = exported(name, how)
    graph = canonicalise(model)
    _, _, size, blocks, merges = MODELS[name]
    found = find_structure(graph)
    assert Counter(layer.kind for layer in found.linears) == Counter(
        {"patch_embed": 1, "qkv": blocks, "proj": blocks, "fc1": blocks, "fc2": blocks, "head": 1}
        | ({"other": merges} if merges else {})
    )
    assert len(found.attentions) == blocks
    assert len(found.norms) == 2 * blocks + 1 + 2 * merges  # Swin: one behind the patches, one at every merge
    assert len(found.gelus) == blocks
    assert len(found.residuals) == 2 * blocks
    assert found.unrecognised == ()
    check_agreement(model, graph, (3, size, size), [1, 3] if EXPORTS[how][1] else [2])


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention_module(tmp_path, batch_first, dynamo):
    """torch.nn.MultiheadAttention: heads merged with the batch, rows in the order [tokens, batch]."""
    torch = pytest.importorskip("torch", reason="exporting needs torch")
    from . import exporting

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Conv2d(3, 24, 8, 8)
            self.norm = torch.nn.LayerNorm(24)
            self.attention = torch.nn.MultiheadAttention(24, 3, batch_first=batch_first)

        def forward(self, x):
            x = self.embed(x).flatten(2).transpose(1, 2)
            y = self.norm(x) if batch_first else self.norm(x).transpose(0, 1)
            y = self.attention(y, y, y)[0]
            return x + (y if batch_first else y.transpose(0, 1))

    exporting.export(exporting.randomise(Model()), str(tmp_path / "model.onnx"), 32, dynamo, symbolic=True)
    model = load_model(tmp_path / "model.onnx")
    graph = canonicalise(model)
    found = find_structure(graph)
    (attention,) = found.attentions
    assert (attention.num_heads, attention.head_dim, attention.tokens) == (3, 8, 16)
    assert [layer.kind for layer in found.linears] == ["patch_embed", "qkv", "proj"]
    assert [layer.rows for layer in found.linears] == [16, 16, 16]
    check_agreement(model, graph, (3, 32, 32), [1, 3])


@pytest.mark.slow
def test_both_exporters_give_the_same_layers(exported):
    first, second = (find_structure(canonicalise(exported("swin", how))) for how in ("legacy", "dynamo"))
    assert first.linears[1:] == second.linears[1:]
    assert first.attentions == second.attentions
    assert first.residuals == second.residuals
