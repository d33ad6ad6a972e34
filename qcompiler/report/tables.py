"""Numbers and tables as every report shows them: readable on a terminal, plain and complete when piped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

_PREFIXES = ("", " k", " M", " G", " T", " P")


def count(value: float) -> str:
    """A large count with three digits and a decimal prefix: ``5.02 G``."""
    if abs(value) < 1000:
        return f"{value:g}"
    exponent = 0
    # What would round to 1000 is 1.00 of the next prefix.
    while abs(value) >= 999.5 and exponent < len(_PREFIXES) - 1:
        value, exponent = value / 1000, exponent + 1
    return f"{value:#.3g}".rstrip(".") + _PREFIXES[exponent]


def file_size(size: int) -> str:
    """Bytes in decimal units: ``22.9 MB``."""
    return f"{count(size)}B" if abs(size) >= 1000 else f"{size} B"


def duration(seconds: float) -> str:
    """``9.4 s``, or ``2 min 05 s`` from a minute on."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def group_counts(groups: Sequence[int]) -> str:
    """Group counts of a layer's quantizers: ``8``, or ``8/8/4/8`` for attention (query, key, value, probability)."""
    return "/".join(map(str, groups))


def table(
    title: str,
    text_columns: Sequence[str],
    number_columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    optional: Sequence[str] = (),
) -> Group:
    """A table of plain text: texts to the left, numbers to the right, None as a dash.

    Cells fold instead of losing characters: a layer name must stay one that can be searched for in the model.

    Args:
        title: Shown above the table.
        text_columns: Headers of the leading columns.
        number_columns: Headers of the columns behind them.
        rows: Cells, as many as there are columns.
        optional: Headers of columns that are left out where all their cells are None.
    """
    cells = [tuple(row) for row in rows]
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    places = []
    for place, header in enumerate((*text_columns, *number_columns)):
        if header in optional and all(row[place] is None for row in cells):
            continue
        places.append(place)
        shown.add_column(Text(header), overflow="fold", justify="left" if place < len(text_columns) else "right")
    for row in cells:
        shown.add_row(*(Text("-" if row[place] is None else str(row[place])) for place in places))
    # A title of the table's own would be wrapped to the table's width.
    return Group(Text(title, style="bold"), shown)


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Labelled lines, one fact each; long ones wrap beside their label."""
    shown = Table.grid(padding=(0, 2))
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for label, text in rows:
        shown.add_row(Text(label), Text(text))
    return shown
