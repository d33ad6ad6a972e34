"""The documentation builds without a warning, and its generated pages say what the definitions say."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest

from .blocks import CHECKOUT

pytest.importorskip("mkdocs", reason="the documentation's site needs the extra 'docs'")
pytest.importorskip("material", reason="the documentation's site needs the extra 'docs'")


def hook(name):
    """A hook as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", CHECKOUT / "docs" / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place


def test_pages(site):
    for page in ("index.html", "methods/index.html", "operators/index.html", "report.html", "benchmarks/index.html"):
        assert (site / page).is_file()
    assert not (site / "hooks").exists()


def test_nothing_is_fetched_from_elsewhere(site):
    """Scripts, styles, pictures and fonts are all in the site; links may lead anywhere."""
    for path in site.rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|iframe|source)[^>]*?src=\"?(https?:)?//", path.read_text("utf-8"))
        styles = re.findall(
            r"<link[^>]*?rel=\"?(?:stylesheet|preconnect)[^>]*?href=\"?https?://", path.read_text("utf-8")
        )
        assert not fetched
        assert not styles


def test_the_readme_is_quoted(site):
    page = (site / "benchmarks" / "index.html").read_text("utf-8")
    assert "bop-budget 0.5625" in page
    assert "README:" not in page
    assert hook("checkout").section("# a\n## One\ntext\n\n## Two\nmore\n", "One") == "text"


def test_links_to_the_checkout_lead_to_copies(site):
    page = (site / "cpp" / "index.html").read_text("utf-8")
    assert 'href="../checkout/examples/cpp/classify.cc.txt"' in page
    example = (CHECKOUT / "examples" / "cpp" / "classify.cc").read_text("utf-8")
    assert (site / "checkout" / "examples" / "cpp" / "classify.cc.txt").read_text("utf-8") == example


def test_operators_are_all_described():
    from qcompiler.ir.functions import OPERATORS, function
    from qcompiler.ir.verifier import FUSED_OPS, READABLE_OPS

    made = hook("operators")
    text = made.operator_page()
    for name in OPERATORS:
        assert f"### {name}\n" in text
    for name in FUSED_OPS | READABLE_OPS:
        body = function(name)
        assert set(body.attribute) <= set(made.ATTRIBUTES), name
        assert {*body.input, *body.output} <= set(made.TENSORS), name
