"""The quantized share of a model, and how it is shown."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qcompiler.report import coverage_text, text
from qcompiler.report.coverage import Coverage, FloatProduct
from qcompiler.report.html import render_page
from qcompiler.report.inspection import inspect_model
from qcompiler.report.inspection_text import inspection_facts
from qcompiler.report.metadata import report_from_dict

from .samples import REPORT, lowered_model
from .test_text import lines, shown

LEFT = (
    FloatProduct("stem", "Conv", 100_000, "convolution"),
    *(FloatProduct(f"blocks.{n}.attn/{part}", "MatMul", 50_000, "masked <b>") for n in range(2) for part in "ab"),
    FloatProduct("loop/MatMul", "MatMul", None, "inside of a subgraph"),
)
COVERAGE = Coverage(1_000_000, 700_000, LEFT)
REPORTED = replace(REPORT, coverage=COVERAGE)


def test_round_trip():
    assert Coverage.from_dict(json.loads(json.dumps(COVERAGE.to_dict()))) == COVERAGE
    assert report_from_dict(json.loads(json.dumps(REPORTED.to_dict()))) == REPORTED
    assert COVERAGE.to_dict()["share"] == 0.7


def test_reasons_are_ordered_by_cost():
    assert list(COVERAGE.by_reason()) == ["masked <b>", "convolution", "inside of a subgraph"]


def test_summary():
    found = lines(text.summary(REPORTED, Path("vit.onnx"), Path("q.onnx")))
    assert found["quantized"].split(maxsplit=1)[1].strip() == "70.0 % of 1.00 M multiply-accumulates of one image"
    assert found["in float"].split("  ", 1)[1].strip() == (
        "4 x masked <b> (blocks.0.attn/a, blocks.0.attn/b, blocks.1.attn/a and 1 more, 20.0 %); "
        "1 x convolution (stem, 10.0 %); 1 x inside of a subgraph (loop/MatMul, 0.0 %)"
    )


def test_nothing_left_is_not_mentioned():
    found = lines(text.summary(replace(REPORT, coverage=Coverage(5, 5)), Path("vit.onnx"), Path("q.onnx")))
    assert "100.0 %" in found["quantized"]
    assert "in float" not in found


def test_inspection_shows_what_the_file_says():
    found = lines(inspection_facts(inspect_model(lowered_model(REPORTED)), Path("q.onnx"), 1000))
    assert "70.0 %" in found["quantized"]
    assert "stem" in found["in float"]


def test_table_names_every_product():
    found = shown(coverage_text.float_table(COVERAGE))
    assert all(item.name in found for item in LEFT)
    assert "100 k" in next(line for line in found.splitlines() if "stem" in line)


def test_page():
    page = render_page({"report": REPORTED.to_dict(), "search": None, "model": "m"})
    assert "70.0 % of products" in page
    assert "stem" in page
    assert "masked &lt;b&gt;" in page
    assert "Left in float" not in render_page({"report": REPORT.to_dict(), "search": None, "model": "m"})


@pytest.mark.parametrize(("quantized", "warned"), [(499, True), (500, False), (0, True)])
def test_a_warning_below_one_half(quantized, warned):
    coverage = Coverage(1000, quantized, (FloatProduct("c", "Conv", 1000 - quantized, "convolution"),))
    found = coverage_text.warning(coverage)
    assert (found is not None) == warned
    if found is not None:
        assert f"only {quantized / 10:.1f} %" in found
        assert "convolution" in found


def test_almost_everything_is_not_everything():
    assert coverage_text.percent(Coverage(100_000, 99_999)) == "99.9 %"
    assert coverage_text.percent(Coverage(0, 0)) == "100.0 %"
