"""The page: complete, self-contained, escaped, the same bytes for the same values."""

import json
import math
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from qcompiler.errors import OutputPathError
from qcompiler.report.html import write_report

from .samples import LONG_NAME, MIXED, REPORT, STOPPED
from .search_samples import SEARCH, many_layers

VOID = {"meta", "link", "wbr"}


class Page(HTMLParser):
    """Elements, tables and texts of a page; complains about elements that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.tables, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def written(content, folder):
    page, values = write_report(content, folder)
    return Page(page.read_text("utf-8")), json.loads(values.read_text("utf-8"))


def content(report=REPORT, search=SEARCH):
    return {"report": report.to_dict(), "search": None if search is None else search.to_dict()}


def test_files(tmp_path):
    folder = tmp_path / "a" / "b"
    assert write_report(content(), folder) == [folder / "report.html", folder / "report.json"]
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    assert json.loads((folder / "report.json").read_text("utf-8")) == json.loads(json.dumps(content()))


def test_written_twice_the_second_time_over_the_first(tmp_path):
    first = [path.read_bytes() for path in write_report(content(), tmp_path / "one")]
    write_report(content(STOPPED, None), tmp_path / "two")
    second = [path.read_bytes() for path in write_report(content(), tmp_path / "two")]
    assert first == second


def test_nothing_is_loaded(tmp_path):
    page, _ = written(content(*many_layers(12)), tmp_path)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "xlink:href", "action", "data", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    assert not {"iframe", "img", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    text = (tmp_path / "report.html").read_text("utf-8").lower()
    for loaded in ("url(", "@import", "http:", "https:", "//fonts", "fetch(", "xmlhttprequest"):
        assert loaded not in text
    policy = next(item["content"] for item in page.named("meta") if "http-equiv" in item)
    assert "default-src 'none'" in policy


def test_layer_table(tmp_path):
    page, _ = written(content(), tmp_path)
    table = next(table for table in page.tables if table[0][0] == "layer")
    assert table[0] == [
        *("layer", "kind", "scheme", "depth", "W bits", "A bits", "groups", "rows x inner x outputs"),
        *("products", "bookkeeping", "relevance %", "KL at W", "KL at A", "SQNR dB"),
    ]
    assert table[1:] == [
        [
            *("patch[proj]", "patch_embed (fixed)", "rows", "0", "8", "8", "1", "36 x 16 x 96"),
            *("3.54 M", "46.1 k", "12.5", "1e-05", "2e-05", "40.5"),
        ],
        [
            *(LONG_NAME, "fc1", "channels", "1", "4", "4", "8", "37 x 96 x 384"),
            *("21.8 M", "252 k", "50", "0.0421", "0.0177", "13.2"),
        ],
        [
            *("blocks.0.attn", "attention", "groups, codebook", "2", "-", "4/4", "8/4/2/16", "37 x 32 x 37"),
            *("4.21 M", "314 k", "-", "-", "0.003", "-"),
        ],
        ["blocks.0.float", "other", "-", "3", "-", "-", "-", "-", "-", "-", "37.5", "-", "-", "-"],
    ]


def test_layer_table_of_mixed_widths_and_blocks(tmp_path):
    page, _ = written(content(MIXED, None), tmp_path)
    heads, *rows = next(table for table in page.tables if table[0][0] == "layer")
    assert heads[8:] == ["products", "bookkeeping", "relevance %", "KL alone"]
    found = {row[0]: row[2:] for row in rows}
    scheme = "blocks 32, rotate 16; weight blocks 32"
    measured = ["12.5", "0.00421"]
    shape = "37 x 96 x 288"
    assert found["blocks.0.qkv"] == [scheme, "1", "4 (4.25)", "3 (3.26)", "-", shape, "12.0 M", "1.00 M", *measured]
    assert found["blocks.0.attn"][:5] == ["blocks 32, uniform", "2", "-", "4/5", "8"]
    assert found["blocks.0.fc1"][-2:] == ["-", "-"]


def test_plan_table(tmp_path):
    page, _ = written(content(), tmp_path)
    table = next(table for table in page.tables if table[0][0] == "plan")
    rows = {row[0]: row[1:] for row in table[1:]}
    assert list(rows) == [point.label for point in SEARCH.points]
    assert rows["swap 2"] == ["this model", "yes", "0.2485", "0.1200", "2.05 MB", "0.12", "6"]
    assert rows["program"][:2] == ["kept", ""]
    assert rows["uniform w4a4"][:2] == ["not kept", ""]
    # swap 1 is the cheapest below swap 2, so nothing beats it at its cost.
    assert [name for name, row in rows.items() if row[1]] == ["uniform w2a2", "uniform w8a8", "swap 1", "swap 2"]


def test_the_whole_report_is_there(tmp_path):
    report = replace(REPORT, warnings=("few images & <odd> ones",))
    page, _ = written({**content(report), "model": "vit <b>.onnx"}, tmp_path)
    text = "\n".join(page.texts)
    for expected in (
        *("vit <b>.onnx", "few images & <odd> ones", "96.1 %", "0.0421 nats", "0.2500 of W8A8", "0.0218 of products"),
        *("22.9 MB → 4.12 MB", "128 images of photos", "ab" * 32, "0.5, 0.5, 0.5", "group candidates", "1.2.3"),
        *("fuse_epilogue", "its result has several readers", "30.00 s", "calibrate", "26,029,968"),
        *("Relevance by the rule zplus", "tokens mean 0.97"),
    ):
        assert expected in text, expected


def test_without_a_search(tmp_path):
    for case in (content(search=None), {"report": REPORT.to_dict()}):
        page, _ = written(case, tmp_path)
        assert [table[0][0] for table in page.tables] == ["layer", "pass", "pass"]
        assert "relevance %" not in page.tables[0][0]


def test_outputs_without_classes(tmp_path):
    """Relative error and PSNR of the worst output, and the numbers of all."""
    numbers = {"agreement": None, "agreement_se": None, "kl": None, "relative_error": 0.0123, "psnr": 41.26}
    outputs = {"boxes": numbers, "masks": numbers | {"relative_error": 0.004}}
    measured = {"images": 8, **numbers, "worst": "boxes", "outputs": outputs}
    text = "".join(written(content(replace(REPORT, agreement=measured)), tmp_path)[0].texts)
    assert "output boxes, the worst of 2, on 8 calibration images; PSNR 41.3 dB" in text
    assert "outputs: masks: relative error" in text
    assert "top-1" not in text


def test_an_early_stage_has_no_layers(tmp_path):
    page, _ = written(content(STOPPED, None), tmp_path)
    assert "nothing is quantized at this stage" in "".join(page.texts)
    assert [table[0][0] for table in page.tables] == ["pass", "pass"]


def test_names_cannot_become_markup(tmp_path):
    name = "</script><script>alert(1)</script><img src=http:x onerror='a'>\"&amp;"
    layers = tuple(replace(layer, name=name) for layer in REPORT.layers[:1])
    analyses = tuple(replace(layer, name=name) for layer in SEARCH.layers[:1])
    points = (replace(SEARCH.points[0], label=name),)
    norms = (replace(SEARCH.norms[0], name=name),)
    search = replace(SEARCH, layers=analyses, points=points, norms=norms, conservation={name: 1.0})
    page, _ = written(content(replace(REPORT, layers=layers, options={name: name}), search), tmp_path)
    assert len(page.named("script")) == 1 and not page.named("img")
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert page.tables[1][1][0] == name


def test_numbers_that_are_not_finite(tmp_path):
    layers = (
        replace(SEARCH.layers[0], sqnr_db=math.inf, relevance=math.nan),
        replace(SEARCH.layers[1], sensitivity={"w4": math.nan, "a4": 0.0}),
    )
    points = (replace(SEARCH.points[0], loss=math.nan), *SEARCH.points[1:])
    page, values = written(content(search=replace(SEARCH, layers=layers, points=points)), tmp_path)
    assert values["search"]["layers"][0]["sqnr_db"] is None
    assert values["search"]["points"][0]["loss"] is None
    text = "".join(page.texts)
    assert "nan" not in text.split() and "inf" not in text.split()
    table = next(table for table in page.tables if table[0][0] == "plan")
    assert table[1][6] == "-"


def test_numbers_of_numpy(tmp_path):
    points = (replace(SEARCH.points[0], loss=np.float32(0.5), bytes=np.int64(3), kept=True),)
    _, values = written(content(search=replace(SEARCH, points=points)), tmp_path)
    assert (values["search"]["points"][0]["loss"], values["search"]["points"][0]["bytes"]) == (0.5, 3)


def test_what_a_later_report_adds_is_shown_too(tmp_path):
    report = REPORT.to_dict()
    report["layers"] = [{**layer, "effective_bits": 4.31} for layer in report["layers"]]
    report["accuracy"] = {"top1": 81.5, "source": "labelled images"}
    page, _ = written({"report": report}, tmp_path)
    assert [row[-1] for row in page.tables[0]] == ["effective bits", "4.31", "4.31", "4.31"]
    assert {"Accuracy", "81.5", "labelled images"} <= set(page.texts)


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputPathError, match=r"--report '.*file.*': cannot be written"):
            write_report(content(), folder)
    (tmp_path / "taken" / "report.html").mkdir(parents=True)
    with pytest.raises(OutputPathError, match="cannot be written"):
        write_report(content(), tmp_path / "taken")
    assert not [path for path in (tmp_path / "taken").iterdir() if path.name.startswith(".")]


def test_values_that_are_no_report_leave_no_file(tmp_path):
    with pytest.raises(TypeError, match="a report holds no object"):
        write_report({**content(), "model": object()}, tmp_path / "new")
    assert not (tmp_path / "new").exists()
