"""The architecture of the shipped model: a small pre-norm vision transformer with a class token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qcompiler.models.extras import require


@dataclass(frozen=True)
class DigitsConfig:
    """Sizes of the model; parameter names and structure are those of timm's VisionTransformer."""

    image: int = 24
    patch: int = 4
    channels: int = 1
    dim: int = 96
    depth: int = 4
    heads: int = 3
    mlp_ratio: int = 4
    classes: int = 10

    @property
    def tokens(self) -> int:
        """Number of patches."""
        return (self.image // self.patch) ** 2


def build(config: DigitsConfig) -> Any:
    """The torch module, float32 [batch, channels, image, image] -> logits [batch, classes], initialised at random.

    Raises:
        OptionError: torch is not installed.
    """
    torch = require("torch", "building the digits model")
    nn = torch.nn
    Module: Any = nn.Module

    class PatchEmbed(Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Conv2d(config.channels, config.dim, config.patch, config.patch)

        def forward(self, x: Any) -> Any:
            return self.proj(x).flatten(2).transpose(1, 2)

    class Attention(Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(config.dim, 3 * config.dim)
            self.proj = nn.Linear(config.dim, config.dim)

        def forward(self, x: Any) -> Any:
            batch, tokens, dim = x.shape
            packed = self.qkv(x).reshape(batch, tokens, 3, config.heads, dim // config.heads)
            q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))

    class Mlp(Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(config.dim, config.mlp_ratio * config.dim)
            self.act = nn.GELU()
            self.fc2 = nn.Linear(config.mlp_ratio * config.dim, config.dim)

        def forward(self, x: Any) -> Any:
            return self.fc2(self.act(self.fc1(x)))

    class Block(Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
            self.attn = Attention()
            self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
            self.mlp = Mlp()

        def forward(self, x: Any) -> Any:
            x = x + self.attn(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class DigitsVit(Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch_embed = PatchEmbed()
            self.cls_token = nn.Parameter(torch.empty(1, 1, config.dim))
            self.pos_embed = nn.Parameter(torch.empty(1, 1 + config.tokens, config.dim))
            self.blocks = nn.Sequential(*(Block() for _ in range(config.depth)))
            self.norm = nn.LayerNorm(config.dim, eps=1e-6)
            self.head = nn.Linear(config.dim, config.classes)
            for parameter in (self.cls_token, self.pos_embed):
                nn.init.trunc_normal_(parameter, std=0.02)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=0.02)
                    nn.init.zeros_(module.bias)

        def forward(self, x: Any) -> Any:
            x = self.patch_embed(x)
            x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
            return self.head(self.norm(self.blocks(x))[:, 0])

    return DigitsVit()
