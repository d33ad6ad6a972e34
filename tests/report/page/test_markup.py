"""Elements, attributes and escaping, read back with the standard library's parser of XML."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.report.page.markup import Markup, join, tag

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=20)


@given(TEXTS, TEXTS)
def test_texts_and_attributes_arrive_as_they_are(content, value):
    found = ET.fromstring(tag("p", content, title=value))
    assert (found.text or "", found.get("title")) == (content, value)


def test_nested_children():
    found = ET.fromstring(tag("ul", (tag("li", number) for number in range(3)), None, [["<x>"]]))
    assert [child.text for child in found] == ["0", "1", "2"]
    assert found[2].tail == "<x>"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"class_": "a", "data_value": 1}, '<i class="a" data-value="1"></i>'),
        ({"hidden": True, "title": None, "open": False}, '<i hidden=""></i>'),
        ({"x": 1.0, "y": 0.126, "z": -0.5, "w": 100.0}, '<i x="1" y="0.13" z="-0.5" w="100"></i>'),
        ({"viewBox": "0 0 1 1"}, '<i viewBox="0 0 1 1"></i>'),
    ],
)
def test_attributes(attributes, expected):
    assert tag("i", **attributes) == expected


def test_elements_without_content():
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_join_escapes_only_texts():
    assert join([Markup("<b>"), "<b>"]) == "<b>&lt;b&gt;"
