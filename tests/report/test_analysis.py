"""An analysis as text and as a page."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from qcompiler.errors import OutputPathError
from qcompiler.report.analysis_text import analysis_facts, sensitivity_tables
from qcompiler.report.html import write_analysis

from .analysis_samples import ANALYSIS
from .test_html import Page


def shown(*parts):
    console = Console(width=300, highlight=False, markup=False, emoji=False)
    with console.capture() as text:
        for part in parts:
            console.print(part)
    return [line.rstrip() for line in text.get().splitlines() if line.strip()]


def test_widths_in_order_and_gaps_as_dashes():
    linear, attention = sensitivity_tables(ANALYSIS)
    lines = shown(linear)
    assert lines[1].split() == ["layer", "kind", "relevance", "w3", "w4", "a3", "a4"]
    assert [line.split() for line in lines[3:]] == [
        ["patch[proj]", "patch_embed", "0.1250", "-", "-", "-", "-"],
        ["blocks.0.fc1", "fc1", "0.5000", "2.50e-01", "1.25e-01", "1.77e-02", "-"],
        ["blocks.0.fc2", "fc2", "-", "2.00e+00", "-", "-", "1.00e-05"],
    ]
    assert shown(attention)[1].split() == ["layer", "kind", "relevance", "qk3", "v3"]


def test_facts():
    lines = shown(analysis_facts(ANALYSIS, Path("m.onnx")))
    assert [line.split()[0] for line in lines] == ["model", "calibration", "relevance", "time"]
    for part in ("m.onnx: 4 layers", "128 images of photos", "rule zplus", "tokens mean 0.97", "1 min 06 s"):
        assert part in "\n".join(lines)


def test_page(tmp_path):
    files = write_analysis({"model": "<m>.onnx", **ANALYSIS.to_dict()}, tmp_path / "new")
    assert [file.name for file in files] == ["report.html", "report.json"]
    assert json.loads(files[1].read_text("utf-8"))["layers"][2]["name"] == "blocks.0.attn"
    page = Page(files[0].read_text("utf-8"))
    text = " ".join(page.texts)
    for part in ("qcompile analysis", "<m>.onnx · 4 layers, nothing is quantized", "few images", "zplus", "1.2.3"):
        assert part in text
    names = {row[0].strip() for table in page.tables for row in table}
    assert names >= {layer.name for layer in ANALYSIS.layers}
    # Nothing is loaded from anywhere.
    assert not [tag for tag, attributes in page.elements if attributes.get("src")]


def test_equal_analyses_give_equal_pages(tmp_path):
    content = {"model": "m.onnx", **ANALYSIS.to_dict()}
    one, two = (write_analysis(content, tmp_path / name) for name in "ab")
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputPathError, match="--report"):
        write_analysis({"model": "m.onnx", **ANALYSIS.to_dict()}, tmp_path / "file")
