"""What is expected of every family: which attention is quantized, and what stays in float for which reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CROSS = "cross-attention"
CONVOLUTION = "convolution"
OUTSIDE = "outside of an attention"


@dataclass(frozen=True)
class Expectation:
    """What a family's tiny model must become.

    Attributes:
        attention: Attention blocks on integers.
        left: Products in float: a part of the reason -> how many (an attention has two).
        note: What the support table says besides.
    """

    attention: int
    left: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


EXPECTED: dict[str, Expectation] = {
    "ViT": Expectation(2),
    "ViT, registers": Expectation(2),
    "DeiT, distilled": Expectation(2),
    "DeiT, two outputs": Expectation(2),
    "CLIP": Expectation(2),
    "SigLIP": Expectation(2, {CROSS: 2}, "pooling by a learned query"),
    "BEiT": Expectation(2, note="relative position bias"),
    "CaiT": Expectation(0, {OUTSIDE: 4, CROSS: 4}, "talking heads, class attention"),
    "EVA-02": Expectation(2, note="rotary positions, SwiGLU"),
    "Swin": Expectation(4),
    "Swin V2": Expectation(4, note="cosine attention"),
    "MaxViT": Expectation(2, {CONVOLUTION: 3}),
    "CoAtNet": Expectation(1, {CONVOLUTION: 3}),
    "MobileViT": Expectation(2, {CONVOLUTION: 4}),
    "EfficientViT (MIT)": Expectation(0, {OUTSIDE: 2, CONVOLUTION: 11}, "linear attention"),
    "EfficientViT (MSRA)": Expectation(0, {"not read by one product": 8, CONVOLUTION: 20}, "channels first"),
    "LeViT": Expectation(0, {"with values of shape": 4, CROSS: 2, CONVOLUTION: 4}, "wide values"),
    "TNT": Expectation(4, {CONVOLUTION: 1}),
    "XCiT": Expectation(2, {CROSS: 2, CONVOLUTION: 7}, "channel attention"),
    "PVT v2": Expectation(1, {CROSS: 6, CONVOLUTION: 8}, "keys of reduced resolution"),
    "SAM encoder": Expectation(
        0, {"the scores are changed": 4, "3 axes": 4, CONVOLUTION: 1}, "positions that depend on queries"
    ),
    "SegFormer": Expectation(1, {CROSS: 6, CONVOLUTION: 8}, "keys of reduced resolution"),
    "ViTPose": Expectation(2, {CONVOLUTION: 2}),
    "DETR": Expectation(3, {CROSS: 4, CONVOLUTION: 2}, "encoder and decoder"),
    "Mask R-CNN": Expectation(4, {CONVOLUTION: 7}, "Swin, feature pyramid, box and mask heads"),
    "SwinIR": Expectation(2, {CONVOLUTION: 7}, "super-resolution"),
    "WTPose": Expectation(6, {CONVOLUTION: 4}, "Swin, dilated attention in a waterfall"),
}
