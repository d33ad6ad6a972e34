"""Layers of the report joined with those of the search."""

from qcompiler.report.page.rows import LayerRow, layer_rows, widths_of

from ..samples import LONG_NAME, MIXED, REPORT
from ..search_samples import SEARCH


def test_both_sides_are_joined_in_graph_order():
    rows = layer_rows(REPORT.to_dict(), SEARCH.to_dict())
    assert [row.name for row in rows] == ["patch[proj]", LONG_NAME, "blocks.0.attn", "blocks.0.float"]
    fc1, attention, unquantized = rows[1:]
    assert (fc1.kind, fc1.chosen, fc1.groups, fc1.relevance, fc1.sqnr_db) == ("fc1", {"w": 4, "a": 4}, [8], 0.5, 13.25)
    assert (attention.chosen, attention.groups) == ({"a": 4}, [8, 4, 2, 16])
    assert (unquantized.kind, unquantized.chosen, unquantized.groups) == ("other", {}, [])


def test_report_alone_keeps_its_order():
    rows = layer_rows(REPORT.to_dict(), None)
    assert [row.name for row in rows] == [layer.name for layer in REPORT.layers]


def test_relevance_of_a_report_without_a_search():
    assert [row.relevance for row in layer_rows(MIXED.to_dict(), None)] == [None, 0.125, 0.5, None, None]


def test_a_layer_that_the_search_does_not_know_stays_behind_its_predecessor():
    report = {"layers": [{"name": name} for name in ("new", "b", "x", "y", "a")]}
    search = {"layers": [{"name": "a", "depth": 5}, {"name": "b", "depth": 2}, {"name": "c", "depth": 3}]}
    assert [row.name for row in layer_rows(report, search)] == ["new", "b", "x", "y", "c", "a"]


def test_widths_in_order():
    rows = [
        LayerRow("a", "", sensitivity={"a4": 1.0, "w10": 1.0, "w4": 1.0}),
        LayerRow("b", "", sensitivity={"x": 1.0, "w2": 1.0}),
    ]
    assert widths_of(rows) == ["w2", "w4", "w10", "a4", "x"]
