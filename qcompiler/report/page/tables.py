"""Tables of the page: sorted by a click on a header."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qcompiler.report.page.markup import Markup, join, tag


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What is read.
        value: What a column of numbers is sorted by; None stands behind every number.
    """

    text: str
    value: float | None


def number(value: float | None, shown: str | None = None) -> Cell:
    """A cell of a number; three digits unless ``shown`` says how it is written."""
    return Cell("-" if value is None else shown or f"{value:.3g}", value)


def sortable(
    text_columns: Sequence[str], number_columns: Sequence[str], rows: Iterable[Sequence[str | Cell]]
) -> Markup:
    """A table that can be sorted.

    Args:
        text_columns: Headers of the leading columns, whose cells are texts.
        number_columns: Headers of the columns behind them, whose cells are :class:`Cell`.
        rows: Cells, as many as there are columns.
    """
    heads = [*(_head(header, None) for header in text_columns), *(_head(header, "number") for header in number_columns)]
    body = [tag("tr", map(_cell, row)) for row in rows]
    table = tag("table", tag("thead", tag("tr", heads)), tag("tbody", body), class_="sortable")
    return tag("div", table, class_="scroll", tabindex=0)


def facts(rows: Iterable[tuple[str, str]]) -> Markup:
    """Labelled lines, one fact each."""
    return tag("dl", ((tag("dt", label), tag("dd", text)) for label, text in rows))


def _head(header: str, class_: str | None) -> Markup:
    return tag("th", tag("button", header, type="button"), scope="col", class_=class_)


def _cell(cell: str | Cell) -> Markup:
    if isinstance(cell, Cell):
        return tag("td", cell.text, class_="number", data_value=None if cell.value is None else repr(float(cell.value)))
    return tag("td", _breakable(cell))


def _breakable(content: str) -> Markup:
    """A long name may be broken behind a dot or a slash."""
    return join((part, tag("wbr")) if part else "" for part in re.split(r"(?<=[./])", content))
