"""Numbers as reports show them, and tables that never lose a character."""

import io

import pytest
from rich.console import Console

from qcompiler.report.tables import count, duration, facts, file_size, group_counts, table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (21_823_488, "21.8 M"),
        (5.02e9, "5.02 G"),
        (123.4e9, "123 G"),  # no dangling point
        (999.6e9, "1.00 T"),
        (2.5e12, "2.50 T"),
        (7e18, "7.00e+03 P"),  # beyond the last prefix
    ],
)
def test_count(value, text):
    assert count(value) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (4_122_000, "4.12 MB"), (350e6, "350 MB")])
def test_file_size(size, text):
    assert file_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.99, "1 min 00 s"), (60, "1 min 00 s"), (125.4, "2 min 05 s")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_group_counts():
    assert group_counts((8,)) == "8"
    assert group_counts((8, 4, 2, 16)) == "8/4/2/16"


@pytest.mark.parametrize("width", [20, 80, 100_000])
def test_no_cell_loses_a_character(width):
    name = "a.very.long.layer[name]." * 6
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False, emoji=False).print(table("T", ("layer",), (), [(name,)]))
    cells = "".join(line.strip() for line in stream.getvalue().splitlines())
    assert cells.endswith(name)


def test_missing_cells_are_dashes():
    stream = io.StringIO()
    Console(file=stream, width=80).print(table("T", ("layer",), ("W", "A"), [("attn", None, 4)]))
    assert stream.getvalue().splitlines()[-2].split() == ["attn", "-", "4"]


@pytest.mark.parametrize(("cells", "shown"), [((None, None), False), ((None, 0), True)])
def test_optional_columns_need_a_value(cells, shown):
    stream = io.StringIO()
    rows = [("a", cells[0], 1), ("b", cells[1], 2)]
    Console(file=stream, width=80).print(table("T", ("layer",), ("KL", "A"), rows, optional=("KL",)))
    text = [line.split() for line in stream.getvalue().splitlines()]
    assert ["layer", *["KL"] * shown, "A"] in text
    assert ["b", *["0"] * shown, "2"] in text


def test_facts_wrap_beside_their_label():
    stream = io.StringIO()
    Console(file=stream, width=30).print(facts([("label", "word " * 10)]))
    first, *rest = stream.getvalue().splitlines()
    assert first.startswith("label  word")
    assert rest
    assert all(line.startswith("       ") for line in rest)
