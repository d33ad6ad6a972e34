"""What may be decided of each layer, as values that can be written down: widths, schemes, groups, blocks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from qcompiler.errors import OptionError, OutputPathError
from qcompiler.quant import blocks, weight_grid

FORMAT = 1
GROUPS, BLOCKS, FOLDED = "groups", "blocks", "folded"
SCHEMES = (GROUPS, BLOCKS, FOLDED)
NARROWEST, WIDEST = 2, 8


@dataclass(frozen=True)
class LinearChoice:
    """One linear layer.

    Attributes:
        weight_bits: Width of the weights.
        activation_bits: Width of the input's codes.
        weight_block: Input channels that share a multiple and a zero point; 0 for one scale per output channel.
        scheme: ``groups`` (instance-aware groups), ``blocks`` (blocks of each token) or ``folded`` (clipped
            channel-wise, folded into the LayerNormalization in front; one static quantizer remains).
        groups: Number of groups of the scheme ``groups``.
        block: Channels of one block of the scheme ``blocks``; 0 for the whole token.
        rotate: Channels that are rotated together in front of blocks; 1 for no rotation.
    """

    weight_bits: int
    activation_bits: int
    weight_block: int = 0
    scheme: str = GROUPS
    groups: int = 8
    block: int = 0
    rotate: int = 1

    def __post_init__(self) -> None:
        """Refuse values that make no sense.

        Raises:
            OptionError: With the value at fault.
        """
        _check_width("weight_bits", self.weight_bits)
        _check_width("activation_bits", self.activation_bits)
        if self.scheme not in SCHEMES:
            raise OptionError(f"scheme '{self.scheme}' is unknown; choose one of {', '.join(SCHEMES)}")
        if self.scheme == BLOCKS and self.activation_bits > blocks.WIDEST_BLOCK_BITS:
            raise OptionError("scheme 'blocks' needs activation_bits of at most 7: use 'groups' at 8 bits")
        if self.scheme != BLOCKS and (self.block != 0 or self.rotate != 1):
            raise OptionError("block and rotate need the scheme 'blocks'")
        if self.weight_block and self.weight_bits > weight_grid.WIDEST_BLOCK_BITS:
            raise OptionError(f"weight_block needs weight_bits of at most {weight_grid.WIDEST_BLOCK_BITS}")
        if not 1 <= self.groups <= 64 or self.block < 0 or self.weight_block < 0:
            raise OptionError("groups must lie in 1..64, block and weight_block must not be negative")
        if not 1 <= self.rotate <= blocks.WIDEST_ROTATION or self.rotate & (self.rotate - 1):
            raise OptionError(f"rotate {self.rotate} is not a power of two in 1..128")


@dataclass(frozen=True)
class AttentionChoice:
    """The two products of one attention block.

    Attributes:
        qk_bits: Width of queries and keys.
        value_bits: Width of values and probabilities.
        scheme: ``blocks`` (every token of a head has a quantizer of its own) or ``groups``.
        groups: Number of groups of the scheme ``groups``, and of the rows of probabilities in both.
    """

    qk_bits: int
    value_bits: int
    scheme: str = BLOCKS
    groups: int = 8

    def __post_init__(self) -> None:
        """Refuse values that make no sense.

        Raises:
            OptionError: With the value at fault.
        """
        _check_width("qk_bits", self.qk_bits)
        _check_width("value_bits", self.value_bits)
        if self.scheme not in (GROUPS, BLOCKS):
            raise OptionError(f"scheme '{self.scheme}' of an attention block is unknown; choose groups or blocks")
        if self.scheme == BLOCKS and max(self.qk_bits, self.value_bits) > blocks.WIDEST_BLOCK_BITS:
            raise OptionError("scheme 'blocks' of an attention block goes up to 7 bits: use 'groups' at 8")
        if self.scheme == GROUPS and self.qk_bits != self.value_bits:
            raise OptionError("scheme 'groups' of an attention block has one width: qk_bits must equal value_bits")
        if not 1 <= self.groups <= 64:
            raise OptionError("groups must lie in 1..64")


@dataclass(frozen=True)
class Choices:
    """The decisions of a whole model.

    Attributes:
        linears: By the name of the layer.
        attentions: By the name of the Softmax.
        weight_images: Calibration images that the weights are fitted to, 0 for all; None where nothing was decided.
    """

    linears: Mapping[str, LinearChoice]
    attentions: Mapping[str, AttentionChoice]
    weight_images: int | None = None

    def save(self, path: Path) -> None:
        """Write the decisions as JSON, for ``--bits-file``.

        Raises:
            OutputPathError: The path cannot be written.
        """
        content = {
            "format": FORMAT,
            **({} if self.weight_images is None else {"weight_images": self.weight_images}),
            "linears": {name: asdict(choice) for name, choice in self.linears.items()},
            "attentions": {name: asdict(choice) for name, choice in self.attentions.items()},
        }
        try:
            path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        except OSError as error:
            raise OutputPathError(f"--save-plan {path} cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path) -> Choices:
        """Read what :meth:`save` wrote, or a user edited.

        Raises:
            OptionError: No such file, not JSON, or a value that makes no sense, with the layer it belongs to.
        """
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise OptionError(f"--bits-file {path} cannot be read: {error}") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise OptionError(f"--bits-file {path} is not a plan of format {FORMAT}; write one with --save-plan")
        images = content.get("weight_images")
        if images is not None and (type(images) is not int or images < 0):
            raise OptionError(f"--bits-file {path}: 'weight_images' must be a number of images, 0 for all")
        return cls(
            _section(LinearChoice, content, "linears", path),
            _section(AttentionChoice, content, "attentions", path),
            images,
        )


def _section(kind: type[Any], content: Mapping[str, Any], section: str, path: Path) -> dict[str, Any]:
    layers = content.get(section, {})
    if not isinstance(layers, dict):
        raise OptionError(f"--bits-file {path}: '{section}' must be an object of layers by name")
    return {name: _read(kind, values, name, path) for name, values in layers.items()}


def _read(kind: type[Any], values: Any, name: str, path: Path) -> Any:
    known = {field.name: field for field in fields(kind)}
    where = f"--bits-file {path}, layer '{name}'"
    if not isinstance(values, dict):
        raise OptionError(f"{where}: expected an object with {', '.join(known)}")
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise OptionError(f"{where}: '{unknown[0]}' is unknown; known are {', '.join(known)}")
    for key, value in values.items():
        wanted = str if key == "scheme" else int
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise OptionError(f"{where}: '{key}' must be {'text' if wanted is str else 'a whole number'}")
    missing = [key for key, field in known.items() if field.default is MISSING and key not in values]
    if missing:
        raise OptionError(f"{where}: '{missing[0]}' is missing")
    try:
        return kind(**values)
    except OptionError as error:
        raise OptionError(f"{where}: {error}") from None


def _check_width(name: str, bits: int) -> None:
    if not NARROWEST <= bits <= WIDEST:
        raise OptionError(f"{name} {bits} is outside {NARROWEST}..{WIDEST}")
