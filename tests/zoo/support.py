"""The support table in Markdown, from what became of every family: `python -m tests.zoo.support`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from .expected import EXPECTED
from .outcome import Outcome, compiled

# Reasons as the report words them -> as the table words them; the first that fits.
_SHORT = {
    "cross-attention": "cross-attention",
    "outside of an attention": "other products of activations",
    "grouped convolution": "convolutions",
    "convolution": "convolutions",
    "not read by one product": "attention with channels before tokens",
    "with values of shape": "attention with wide values",
    "the scores are changed": "attention with a computed bias",
    "3 axes": "products by 3-axis constants",
}


def table(outcomes: Iterable[tuple[str, Outcome]]) -> str:
    """One row per family.

    Args:
        outcomes: Families with what became of their models, at W8A8.
    """
    lines = [
        "| model | linear layers | attention blocks | quantized products | left in float | relative error, W8A8 |",
        "|---|---|---|---|---|---|",
    ]
    for name, outcome in outcomes:
        note = EXPECTED[name].note if name in EXPECTED else ""
        left = ", ".join(dict.fromkeys(_short(item.reason) for item in outcome.left)) or "-"
        cells = (
            f"{name} ({note})" if note else name,
            outcome.linears,
            outcome.attentions,
            f"{100 * outcome.share:.0f} %",
            left,
            f"{100 * outcome.error:.1f} %",
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _short(reason: str) -> str:
    return next((text for part, text in _SHORT.items() if part in reason), reason)


def main() -> None:
    """Build, export and compile every family, and print the table."""
    from . import exporting

    rows = []
    for name in EXPECTED:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            exporting.export(name, path, "legacy")
            rows.append((name, compiled(path, Path(folder), bits="w8a8", method="igq", group_candidates=(4,))))
    print(table(rows))


if __name__ == "__main__":
    main()
