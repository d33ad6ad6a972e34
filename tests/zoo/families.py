"""One tiny model with random weights per family of vision transformers: timm's backbones, reduced in size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from qcompiler.models.extras import require_timm

timm = require_timm("the zoo")

from timm.layers import set_fused_attn  # noqa: E402 - timm needs the line above where torchvision is incomplete
from timm.models import (  # noqa: E402
    beit,
    byobnet,
    cait,
    deit,
    efficientvit_mit,
    efficientvit_msra,
    eva,
    levit,
    maxxvit,
    pvt_v2,
    swin_transformer,
    swin_transformer_v2,
    tnt,
    vision_transformer,
    vision_transformer_sam,
    xcit,
)

from .detection import DetectionTransformer, MaskDetector  # noqa: E402
from .heads import HeatMaps, MixedSegmentation, TwoHeads  # noqa: E402
from .restoration import SuperResolution  # noqa: E402
from .waterfall import WaterfallPose  # noqa: E402

SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2}
PLAIN: dict[str, Any] = {**SIZES, "num_heads": 2}
CLASSES = {"num_classes": 10}
SWIN: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": (2, 2),
    "num_heads": (1, 2),
    "window_size": 4,
}


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        build: Makes the float module.
        size: Rows and columns of its images.
    """

    build: Callable[[], nn.Module]
    size: int = 32


def _maxxvit(kinds: tuple[str, ...]) -> nn.Module:
    config = maxxvit.MaxxVitCfg(
        embed_dim=(16, 32)[-len(kinds) :],
        depths=(1,) * len(kinds),
        block_type=kinds,
        stem_width=8,
        conv_cfg=maxxvit.MaxxVitConvCfg(),
        transformer_cfg=maxxvit.MaxxVitTransformerCfg(dim_head=16, window_size=(4, 4), grid_size=(4, 4)),
    )
    return maxxvit.MaxxVit(config, img_size=32, **CLASSES)


def _mobilevit() -> nn.Module:
    convolutions = byobnet.ByoBlockCfg(type="bottle", d=1, c=16, s=2, gs=1, br=2.0)
    attention = byobnet.ByoBlockCfg(
        type="mobilevit",
        d=1,
        c=16,
        s=1,
        block_kwargs={"transformer_dim": 32, "transformer_depth": 2, "patch_size": 2, "num_heads": 2},
    )
    config = byobnet.ByoModelCfg(
        blocks=(convolutions, attention), stem_chs=8, stem_type="3x3", stem_pool="", downsample="", act_layer="silu"
    )
    return byobnet.ByobNet(config, **CLASSES)


def _plain(**options: Any) -> nn.Module:
    return vision_transformer.VisionTransformer(**{**PLAIN, **CLASSES, **options})


def _eva() -> nn.Module:
    set_fused_attn(False)  # its fused spelling does not pass torch's tracing exporter
    try:
        return eva.Eva(**PLAIN, **CLASSES, qkv_fused=False, swiglu_mlp=True, use_rot_pos_emb=True, mlp_ratio=8 / 3)
    finally:
        set_fused_attn(True)


def _mask_rcnn() -> nn.Module:
    swin = timm.create_model("swin_tiny_patch4_window7_224", features_only=True, **{**SWIN, "out_indices": (0, 1)})
    return MaskDetector(swin, (16, 32), 16)


def _swin_ir() -> nn.Module:
    blocks = [
        swin_transformer.SwinTransformerBlock(16, (8, 8), 2, window_size=4, shift_size=shift, mlp_ratio=2.0)
        for shift in (0, 2)
    ]
    return SuperResolution((blocks[:1], blocks[1:]), 16)


def _wtpose() -> nn.Module:
    swin = swin_transformer.SwinTransformer(
        img_size=8, patch_size=1, in_chans=16, embed_dim=16, depths=(2, 1, 1), num_heads=(1, 2, 2), window_size=4
    )
    return WaterfallPose(swin, (16, 32, 64), 16, 16)


FAMILIES: dict[str, Family] = {
    "ViT": Family(_plain),
    "ViT, registers": Family(lambda: _plain(reg_tokens=4)),
    "DeiT, distilled": Family(lambda: deit.VisionTransformerDistilled(**PLAIN, **CLASSES)),
    "DeiT, two outputs": Family(lambda: TwoHeads(deit.VisionTransformerDistilled(**PLAIN, **CLASSES))),
    "CLIP": Family(lambda: _plain(pre_norm=True, act_layer="quick_gelu")),
    "SigLIP": Family(lambda: _plain(class_token=False, global_pool="map")),
    "BEiT": Family(lambda: beit.Beit(**PLAIN, **CLASSES, use_rel_pos_bias=True, use_abs_pos_emb=False)),
    "CaiT": Family(lambda: cait.Cait(**PLAIN, **CLASSES)),
    "EVA-02": Family(_eva),
    "Swin": Family(lambda: swin_transformer.SwinTransformer(**SWIN, **CLASSES)),
    "Swin V2": Family(lambda: swin_transformer_v2.SwinTransformerV2(**SWIN, **CLASSES)),
    "MaxViT": Family(lambda: _maxxvit(("M",))),
    "CoAtNet": Family(lambda: _maxxvit(("C", "T"))),
    "MobileViT": Family(_mobilevit),
    "EfficientViT (MIT)": Family(
        lambda: efficientvit_mit.EfficientVit(
            widths=(8, 16, 24, 32), depths=(1, 1, 1, 1), head_dim=8, head_widths=(32, 32), **CLASSES
        )
    ),
    "EfficientViT (MSRA)": Family(
        lambda: efficientvit_msra.EfficientVitMsra(
            img_size=64, embed_dim=(16, 32, 48), key_dim=(8, 8, 8), depth=(1, 1, 1), num_heads=(1, 1, 2), **CLASSES
        ),
        64,
    ),
    "LeViT": Family(
        lambda: levit.Levit(img_size=64, embed_dim=(32, 48), key_dim=16, depth=(1, 1), num_heads=(2, 3), **CLASSES),
        64,
    ),
    "TNT": Family(lambda: tnt.TNT(**{**SIZES, **CLASSES}, inner_dim=8, num_heads_inner=2, num_heads_outer=2)),
    "XCiT": Family(lambda: xcit.Xcit(**PLAIN, **CLASSES, cls_attn_layers=1, eta=1.0)),
    "PVT v2": Family(
        lambda: pvt_v2.PyramidVisionTransformerV2(
            depths=(1, 1, 1, 1), embed_dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 4), **CLASSES
        ),
        64,
    ),
    "SAM encoder": Family(
        lambda: vision_transformer_sam.VisionTransformerSAM(
            **PLAIN, num_classes=0, window_size=3, global_attn_indexes=(1,), use_rel_pos=True, neck_chans=16
        )
    ),
    "SegFormer": Family(
        lambda: MixedSegmentation(
            pvt_v2.PyramidVisionTransformerV2(
                depths=(1, 1, 1, 1), embed_dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 4), **CLASSES
            ),
            (8, 16, 24, 32),
        ),
        64,
    ),
    "ViTPose": Family(lambda: HeatMaps(_plain(class_token=False, global_pool="", **{"num_classes": 0}), 32, 4)),
    "DETR": Family(lambda: DetectionTransformer(dim=32, heads=2, queries=6, size=32)),
    "Mask R-CNN": Family(_mask_rcnn),
    "SwinIR": Family(_swin_ir, 8),
    "WTPose": Family(_wtpose),
}


def build(name: str) -> nn.Module:
    """The model of a family, in evaluation mode; equal weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _randomised(FAMILIES[name].build()).eval()


def _randomised(model: nn.Module) -> nn.Module:
    """Gives constant parameters and running moments values, so that no factor is hidden by a one or a zero."""
    for parameter in model.parameters():
        if parameter.numel() > 1 and (parameter.ndim == 1 or parameter.std() < 1e-3):
            parameter.data += 0.1 * torch.randn(parameter.shape)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer += 0.1 * torch.randn(buffer.shape)
        elif name.endswith("running_var"):
            buffer *= 0.5 + torch.rand(buffer.shape)
    return model
