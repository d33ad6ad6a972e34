"""The search space: widths, schemes and blocks that a layer may choose from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qcompiler.quant.choices import BLOCKS, FOLDED, GROUPS
from qcompiler.quant.weight_grid import WIDEST_BLOCK_BITS

ALL_WIDTHS = (2, 3, 4, 5, 6, 8)
NEIGHBOURS = 2  # widths below and above the uniform one that a budget pays for
WEIGHT_BLOCKS = (0, 8, 16, 32, 64)  # input channels; 0: one scale per output channel
QUICK_WEIGHT_BLOCKS = (0, 32)


@dataclass(frozen=True)
class InputScheme:
    """One way to quantize a linear layer's input, whatever the width.

    Attributes:
        scheme: As in :class:`qcompiler.quant.choices.LinearChoice`.
        groups: Number of groups.
        block: Channels of one block, 0 for the whole token.
        rotate: Channels that are rotated together.
    """

    scheme: str
    groups: int = 1
    block: int = 0
    rotate: int = 1

    def fits(self, channels: int, bits: int) -> bool:
        """Whether it can quantize so many channels at this width."""
        if self.scheme != BLOCKS:
            return True
        divides = channels % (self.block or channels) == 0 and channels % self.rotate == 0
        return divides and bits <= 7 and self.block < channels


# Blocks of each token, finest first, then whole tokens.
BLOCK_SCHEMES = (
    InputScheme(BLOCKS, block=16, rotate=16),
    InputScheme(BLOCKS, block=32, rotate=32),
    InputScheme(BLOCKS, block=32),
    InputScheme(BLOCKS, block=64, rotate=64),
)
TOKEN_SCHEMES = (InputScheme(BLOCKS, rotate=64), InputScheme(BLOCKS, rotate=32), InputScheme(BLOCKS))
# The two that are chosen most, and the one that costs least: small layers cannot pay for blocks.
QUICK_SCHEMES = (BLOCK_SCHEMES[1], BLOCK_SCHEMES[3], TOKEN_SCHEMES[-1])
GROUP_SCHEMES = (InputScheme(GROUPS, groups=8), InputScheme(GROUPS, groups=16))
WIDE_SCHEMES = GROUP_SCHEMES  # 8 bits, where blocks leave no room for their multiples
WHOLE_TOKENS = (InputScheme(BLOCKS),)


@dataclass(frozen=True)
class SearchSpace:
    """What a search may choose from.

    Attributes:
        weight_widths: Widths of weights.
        activation_widths: Widths of activations.
        schemes: Input schemes of widths below 8.
        weight_blocks: Block sizes of weights of at most 6 bits; 0 for one scale per output channel.
        folded: Layers behind a LayerNormalization use channel-wise scales folded into it, instead of ``schemes``.
        attention: Scheme of the attention products.
        attention_groups: Group counts of attention operands.
    """

    weight_widths: tuple[int, ...]
    activation_widths: tuple[int, ...]
    schemes: tuple[InputScheme, ...]
    weight_blocks: tuple[int, ...] = (0,)
    folded: bool = False
    attention: str = BLOCKS
    attention_groups: tuple[int, ...] = (8,)

    def inputs(self, channels: int, bits: int, foldable: bool) -> Iterator[InputScheme]:
        """Schemes for one input at one width."""
        if self.folded and foldable:
            yield InputScheme(FOLDED)
            return
        found = [scheme for scheme in self.schemes if scheme.fits(channels, bits)]
        yield from found or WIDE_SCHEMES

    def weights(self, channels: int, bits: int) -> Iterator[int]:
        """Block sizes for one weight at one width."""
        for block in self.weight_blocks:
            if block == 0 or (bits <= WIDEST_BLOCK_BITS and channels % block == 0 and channels > block):
                yield block


def widths_around(budget: float, neighbours: int = NEIGHBOURS) -> tuple[int, ...]:
    """Widths worth trying under a budget: the uniform one that it pays for, fewer below it and ``neighbours`` above."""
    paid = max((bits for bits in ALL_WIDTHS if bits * bits <= 64 * budget * (1 + 1e-9)), default=ALL_WIDTHS[0])
    at = ALL_WIDTHS.index(paid)
    return ALL_WIDTHS[max(at - max(neighbours - 1, 1), 0) : at + neighbours + 1]
