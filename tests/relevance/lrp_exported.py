"""Small timm models: as torch modules, and exported and canonicalised."""

import functools

import numpy as np
import pytest

from qcompiler.ir.importing import to_graph
from qcompiler.ir.loading import load_model
from qcompiler.ir.passes import run_passes
from qcompiler.ir.saving import to_model
from qcompiler.ir.structure import find_structure
from qcompiler.passes import CANONICALISE

F = np.float32
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 10}
SWIN = {"patch_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "num_classes": 10}
MEAN = VIT | {"global_pool": "avg", "class_token": False}
MODELS = {
    "vit": ("vision_transformer", "VisionTransformer", VIT),
    "vit with mean pooling": ("vision_transformer", "VisionTransformer", MEAN),
    "deit": ("deit", "VisionTransformerDistilled", VIT),
    "swin": ("swin_transformer", "SwinTransformer", SWIN | {"img_size": 32, "window_size": 4}),
}


def build(name):
    """The torch module, with values wherever a constant would hide a factor; skips where torch or timm is missing."""
    torch = pytest.importorskip("torch", reason="these models come from torch")
    from ..passes import exporting

    try:
        timm = exporting.import_timm()
    except ImportError:
        pytest.skip("these models come from timm")
    module, kind, options = MODELS[name]
    torch.manual_seed(1)
    model = getattr(getattr(timm.models, module), kind)(**options)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= 2  # logits and scores of a size that trained models have
    return exporting.randomise(model)


@functools.cache
def canonical(name, folder, edit=None):
    """The canonical ONNX model and its structure; `edit` changes the module first."""
    module = build(name)
    if edit is not None:
        edit(module)
    from ..passes import exporting

    path = folder / "model.onnx"
    exporting.export(module, str(path), MODELS[name][2]["img_size"], dynamo=False, symbolic=True)
    graph = to_graph(load_model(path))
    run_passes(graph, [item() for item in CANONICALISE])
    return to_model(graph), find_structure(graph)


def images(count, size=32, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3, size, size)).astype(F)
