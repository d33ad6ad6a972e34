"""The two CIFAR-10 architectures, from timm's building blocks: a hybrid ViT and a Swin with shifted windows."""

from __future__ import annotations

from functools import partial
from typing import Any

from qcompiler.models.extras import require_timm

IMAGE = (3, 32, 32)
CLASSES = 10
PURPOSE = "building the CIFAR-10 models"


def _vit(timm: Any) -> Any:
    # 64 tokens: two strided convolutions make 8x8 of 32x32.
    hybrid = timm.models.vision_transformer_hybrid
    stem = hybrid.ConvStem(channels=(32, 96), depth=2, stride=(2, 2), padding=1)
    return timm.models.vision_transformer.VisionTransformer(
        img_size=IMAGE[1],
        patch_size=1,
        embed_layer=partial(timm.layers.HybridEmbed, backbone=stem, proj=False),
        embed_dim=96,
        depth=5,
        num_heads=3,
        mlp_ratio=2,
        num_classes=CLASSES,
        class_token=False,
        global_pool="avg",
    )


def _swin(timm: Any) -> Any:
    # 16x16, 8x8 and 4x4 tokens: shifted windows in the first two stages, patch merging twice.
    hybrid = timm.models.vision_transformer_hybrid

    def embed(**options: Any) -> Any:
        stem = hybrid.ConvStem(channels=(24, 48), depth=2, stride=(1, 2), padding=1)
        del options["norm_layer"]  # the convolutions have their own
        return timm.layers.HybridEmbed(stem, proj=False, **(options | {"patch_size": 1}))

    return timm.models.swin_transformer.SwinTransformer(
        img_size=IMAGE[1],
        patch_size=2,
        embed_layer=embed,
        window_size=4,
        embed_dim=48,
        depths=(2, 2, 2),
        num_heads=(3, 6, 12),
        mlp_ratio=2,
        drop_path_rate=0.0,
        num_classes=CLASSES,
    )


ARCHITECTURES = {"vit": _vit, "swin": _swin}


def build(arch: str) -> Any:
    """The torch module, float32 [batch, 3, 32, 32] in [-1, 1] -> logits [batch, 10], initialised at random.

    Args:
        arch: a key of ARCHITECTURES.

    Raises:
        OptionError: torch or timm is not installed.
    """
    return ARCHITECTURES[arch](require_timm(PURPOSE))
