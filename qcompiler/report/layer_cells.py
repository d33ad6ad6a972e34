"""Cells of the tables of layers: widths and blocks in as few characters as they can be told in."""

from __future__ import annotations

EFFECTIVE = "in parentheses: bits with the multiples and zero points of blocks"
MEASURED = ("relevance", "KL alone")  # columns that a table has where some layer was measured


def scheme_cell(scheme: str, block: int, rotate: int, weight_block: int) -> str:
    """How the input is quantized, with the channels of its blocks and of those of the weight.

    ``blocks 32, rotate 16; weight blocks 32``, or ``rows``.
    """
    text = scheme.replace("blocks", f"blocks {block}", 1) if block else scheme
    if rotate > 1:
        text += f", rotate {rotate}"
    return f"{text}; weight blocks {weight_block}" if weight_block else text


def width_cell(bits: int | None, effective: float | None, value_bits: int | None = None) -> str | None:
    """A width, that of values behind that of queries and keys, and the effective one where it differs.

    ``4``, ``4/5`` or ``4 (4.25)``; None where there is no width.
    """
    if bits is None:
        return None
    text = str(bits) if value_bits is None else f"{bits}/{value_bits}"
    return text if effective is None or effective == bits else f"{text} ({effective:.2f})"


def share_cell(share: float | None) -> str | None:
    """A share of a whole in percent."""
    return None if share is None else f"{100 * share:.3g} %"


def loss_cell(loss: float | None) -> str | None:
    """A divergence in nats."""
    return None if loss is None else f"{loss:.3g}"
