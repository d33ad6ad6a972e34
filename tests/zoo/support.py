"""The support tables in Markdown, from what became of every family.

`python -m tests.zoo.support` builds, exports and compiles every family and prints both tables; with `--write` it puts
them between the marks in `docs/models.md` and `README.md`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .expected import EXPECTED
from .outcome import Outcome, compiled

BEGIN, END = "<!-- zoo:begin -->", "<!-- zoo:end -->"
ROOT = Path(__file__).resolve().parents[2]

# Reasons as the report words them -> as the tables word them; the first that fits.
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

Rows = Iterable[tuple[str, Outcome]]


def table(outcomes: Rows) -> str:
    """One row per family, with everything that is known.

    Args:
        outcomes: Families with what became of their models, at W8A8.
    """
    head = ("model", "linear layers", "attention blocks", "quantized products", "left in float", "error, W8A8", "PSNR")
    rows = []
    for name, outcome in outcomes:
        note = EXPECTED[name].note if name in EXPECTED else ""
        psnr = "-" if outcome.psnr is None else f"{outcome.psnr:.0f} dB"
        label = f"{name} ({note})" if note else name
        facts = outcome.linears, outcome.attentions, _share(outcome), _left(outcome), _error(outcome)
        rows.append((label, *facts, psnr))
    return _markdown(head, rows)


def compact(outcomes: Rows) -> str:
    """One row per family for the README: share of the multiply-accumulates, error, what stays in float."""
    head = ("model", "quantized products", "error, W8A8", "left in float")
    return _markdown(head, [(name, _share(item), _error(item), _left(item)) for name, item in outcomes])


def between_marks(text: str, new: str) -> str:
    """The text with what stands between its marks replaced.

    Raises:
        ValueError: A mark is missing, or is there twice.
    """
    if (text.count(BEGIN), text.count(END)) != (1, 1):
        raise ValueError(f"{BEGIN} and {END} must stand there once each")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{new}\n{END}{rest.partition(END)[2]}"


def families_in(text: str) -> list[str]:
    """The families that the table between a text's marks names, without their notes."""
    rows = text.partition(BEGIN)[2].partition(END)[0].splitlines()
    labels = [row.split("|")[1].strip() for row in rows if row.startswith("|")][2:]
    known = {f"{name} ({item.note})": name for name, item in EXPECTED.items()}
    return [known.get(label, label) for label in labels]


def _markdown(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [tuple(head), *rows]
    lines.insert(1, ("---",) * len(lines[0]))
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _share(outcome: Outcome) -> str:
    return f"{100 * outcome.share:.0f} %"


def _error(outcome: Outcome) -> str:
    return f"{100 * outcome.error:.1f} %"


def _left(outcome: Outcome) -> str:
    short = (next((text for part, text in _SHORT.items() if part in item.reason), item.reason) for item in outcome.left)
    return ", ".join(dict.fromkeys(short)) or "-"


def outcome_of(name: str) -> Outcome:
    """One family's model at W8A8 in 4 groups."""
    from . import exporting  # needs torch and timm

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        exporting.export(name, path, "legacy")
        return compiled(path, Path(folder), bits="w8a8", method="igq", group_candidates=(4,))


def main() -> None:
    """Build, export and compile every family; print or write the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.support", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/models.md and README.md")
    write = parser.parse_args().write
    rows = [(name, outcome_of(name)) for name in EXPECTED]
    for path, text in ((ROOT / "docs/models.md", table(rows)), (ROOT / "README.md", compact(rows))):
        if write:
            path.write_text(between_marks(path.read_text("utf-8"), text), "utf-8")
        else:
            print(text, end="\n\n")


if __name__ == "__main__":
    main()
