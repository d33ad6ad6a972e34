"""Shades follow values."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.report.page.heat import Heat, count_shade


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=8))
def test_larger_values_are_never_paler(values):
    heat = Heat(values)
    shades = [int(heat.shade(value)[1:]) for value in [-1.0, 0.0, *sorted(values)]]
    assert shades == sorted(shades)
    assert shades[0] == 0 and 0 <= shades[-1] <= 7
    if len(heat.edges) > 2:
        assert heat.shade(heat.edges[-1].value) == "h7"


def test_edges_belong_to_the_upper_shade_and_the_legend_names_them():
    heat = Heat([0.02, 0.9])
    assert [edge.label for edge in heat.edges] == ["0.02", "0.05", "0.1", "0.2", "0.5", "1"]
    assert [heat.shade(value) for value in (0.0499, 0.05, 0.5, 1.0)] == ["h0", "h2", "h7", "h7"]
    picture = ET.fromstring(heat.legend("KL, nats")).find("svg")
    assert [item.get("class") for item in picture.iter("rect")] == ["h0", "h2", "h4", "h5", "h7"]
    assert [item.text for item in picture.iter("text")] == ["0.02", "0.05", "0.1", "0.2", "0.5", "1"]


@pytest.mark.parametrize(("count", "shade"), [(0, "h0"), (1, "h0"), (2, "h1"), (7, "h2"), (16, "h4"), (10**9, "h7")])
def test_count_shade(count, shade):
    assert count_shade(count) == shade
