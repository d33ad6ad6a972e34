"""What the rows of the layer charts draw: lengths, shades and outlines follow the values."""

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from qcompiler.report.page.depth import depth_chart
from qcompiler.report.page.folding import folding_chart
from qcompiler.report.page.rows import layer_rows

from ..samples import LONG_NAME, REPORT, STOPPED
from ..search_samples import SEARCH, many_layers


def column(figure, title):
    """The picture of one column and its elements by the text over them."""
    picture = next(item for item in figure.iter("svg") if (item.get("aria-label") or "").startswith(f"{title},"))
    return picture, {item.find("title").text: item for item in picture.iter() if item.find("title") is not None}


@pytest.fixture(scope="module")
def figure():
    return ET.fromstring(depth_chart(layer_rows(REPORT.to_dict(), SEARCH.to_dict())))


def test_no_layers_no_chart():
    assert depth_chart(layer_rows(STOPPED.to_dict(), None)) is None


def test_columns_are_those_with_values(figure):
    def labels(found):
        return [item.get("aria-label").split(",")[0] for item in found.iter("svg") if item.get("role")]

    report = ET.fromstring(depth_chart(layer_rows(REPORT.to_dict(), None)))
    assert labels(report) == ["Bits", "Groups", "Bit operations"]
    searched = ["sensitivity", "Bits", "Groups", "Bit operations", "Relevance", "Sensitivity", "SQNR of the output"]
    assert labels(figure) == searched


def test_names_are_whole(figure):
    assert [item.text for item in figure.iter("bdi")] == ["patch[proj]", LONG_NAME, "blocks.0.attn", "blocks.0.float"]


def test_bits(figure):
    _, marks = column(figure, "Bits")
    eight = float(marks["patch[proj]: weights 8 bits"].get("width"))
    assert float(marks[f"{LONG_NAME}: weights 4 bits"].get("width")) == pytest.approx(eight / 2, abs=0.01)
    assert "blocks.0.attn: activations 4 bits" in marks
    assert not any(text.startswith("blocks.0.attn: weights") for text in marks)


def test_groups(figure):
    picture, _ = column(figure, "Groups")
    cells = [item.text for item in picture.iter("text") if (item.get("class") or "").startswith("on-")]
    assert cells == ["1", "8", "8", "4", "2", "16"]


def test_operations_add_up(figure):
    picture, _ = column(figure, "Bit operations")
    bars = [float(item.get("width")) for item in picture.iter("rect") if item.get("class") in ("first", "third")]
    costs = [value for layer in REPORT.layers for value in (layer.products, layer.bookkeeping)] + [0, 0]
    scale = bars[2] / costs[2]
    assert bars == pytest.approx([value * scale for value in costs], abs=0.02)


def test_relevance(figure):
    _, marks = column(figure, "Relevance")
    widths = {text.split(":")[0]: float(item.get("width")) for text, item in marks.items()}
    assert widths[LONG_NAME] == pytest.approx(4 * widths["patch[proj]"], abs=0.05)
    assert widths[LONG_NAME] / widths["blocks.0.float"] == pytest.approx(0.5 / 0.375, abs=0.01)
    assert "blocks.0.attn" not in widths


def test_sensitivity_outlines_the_plan(figure):
    picture, marks = column(figure, "Sensitivity")
    outlined = {(item.get("x"), item.get("y")) for item in picture.iter("rect") if item.get("class") == "outlined"}
    inside = {
        text
        for text, item in marks.items()
        if (f"{float(item.get('x')) + 1:g}", f"{float(item.get('y')) + 1:g}") in outlined
    }
    assert len(outlined) == 5
    assert {text.split(" alone at ")[1].split(":")[0] for text in inside} == {"w8", "a8", "w4", "a4"}
    assert len(inside) == 5
    paler, darker = marks[f"{LONG_NAME} alone at w4: KL 0.0421 nats"], marks[f"{LONG_NAME} alone at w3: KL 0.5 nats"]
    assert int(paler.get("class")[1:]) < int(darker.get("class")[1:])


def test_noise_may_be_negative():
    analyses = SEARCH.to_dict()
    analyses["layers"][1]["sqnr_db"] = -4.0
    found = ET.fromstring(depth_chart(layer_rows(REPORT.to_dict(), analyses)))
    picture, marks = column(found, "SQNR of the output")
    zero = float(next(item for item in picture.iter("line") if item.get("class") == "stem").get("x1"))
    assert float(marks[f"{LONG_NAME}: -4.0 dB"].get("cx")) < zero < float(marks["patch[proj]: 40.5 dB"].get("cx"))


def test_sixty_layers_have_a_row_each():
    report, search = many_layers(12)
    found = ET.fromstring(depth_chart(layer_rows(report.to_dict(), search.to_dict())))
    _, marks = column(found, "SQNR of the output")
    heights = [float(item.get("cy")) for item in marks.values()]
    assert len(heights) == 60
    assert {round(b - a, 6) for a, b in pairwise(heights)} == {18.0}


def test_folding():
    found = ET.fromstring(folding_chart(SEARCH.to_dict()["norms"]))
    _, marks = column(found, "Range of each channel")
    # Quantiles of 0, 0.5, 1, 2, 64 at 10 % and 90 %: 0.2 and 39.2; the axis goes from 0.1 to 100.
    before = next(item for text, item in marks.items() if text.startswith("blocks.0.norm1 before"))
    after = next(item for text, item in marks.items() if text.startswith("blocks.0.norm1 after"))
    assert float(before.get("width")) > float(after.get("width")) > 0
    assert any("smallest 0, 10 % 0.2, median 1, 90 % 39.2, largest 64" in text for text in marks)
    picture, _ = column(found, "Spread")
    assert [item.text for item in picture.iter("text") if item.get("class") == "value"] == ["64", "4"]


def test_folding_of_nothing():
    assert folding_chart([]) is None
    assert folding_chart([{"name": "n", "before": [], "after": []}]) is None
    dead = folding_chart([{"name": "n", "before": [0.0, 0.0], "after": [0.0, None]}])
    picture, _ = column(ET.fromstring(dead), "Spread")
    assert [item.text for item in picture.iter("text") if item.get("class") == "value"] == ["-", "-"]
