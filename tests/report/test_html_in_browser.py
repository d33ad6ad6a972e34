"""The page in a browser: nothing overlaps, nothing is cut off, and a click sorts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from qcompiler.report.html import write_report

from .search_samples import many_layers

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs a browser: one of " + ", ".join(BROWSERS)),
]

# Texts of a picture that cover one another, or that its edge cuts; and how much wider the page is than the window.
LAYOUT = """
const faults = [];
for (const svg of document.querySelectorAll("svg")) {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
  texts.forEach(([name, box], index) => {
    if (box.left < frame.left - 1 || box.right > frame.right + 1) faults.push(`${name} is cut`);
    if (box.top < frame.top - 3 || box.bottom > frame.bottom + 3) faults.push(`${name} is cut`);
    for (const [other, second] of texts.slice(0, index)) {
      const width = Math.min(box.right, second.right) - Math.max(box.left, second.left);
      const height = Math.min(box.bottom, second.bottom) - Math.max(box.top, second.top);
      if (width > 0.5 && height > 3) faults.push(`${name} over ${other}`);
    }
  });
}
const rows = [...document.querySelectorAll(".lanes")].map((figure) => {
  const tops = (what) => [...figure.querySelectorAll(what)].map((item) => item.getBoundingClientRect().top);
  const [names, bands] = [tops(".names > div:nth-child(even)"), tops("svg:last-of-type rect.band")];
  return [names.length - bands.length, Math.max(...names.map((top, index) => Math.abs(top - bands[index])))];
});
return { faults, rows, texts: document.querySelectorAll("svg text").length,
         excess: document.documentElement.scrollWidth - window.innerWidth };
"""

SORT = """
const table = [...document.querySelectorAll("table")].find((item) => item.rows[0].cells[0].textContent === "layer");
const column = (head) => [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === head);
const show = (head) => [...table.tBodies[0].rows].map((row) => row.cells[column(head)].textContent);
const click = (head) => { table.tHead.rows[0].cells[column(head)].firstElementChild.click(); return show(head); };
return { before: show("layer"), up: click("W bits"), down: click("W bits"), names: click("layer"),
         costs: click("products"),
         marks: [...table.querySelectorAll("th[aria-sort]")].map((head) => [head.textContent, head.ariaSort]) };
"""


def in_browser(script, folder, content, width=1400):
    """What ``script`` returns on the page."""
    page, _ = write_report(content, folder)
    probe = f"<script>document.title = JSON.stringify((() => {{ {script} }})())</script>"
    page.write_text(page.read_text("utf-8").replace("</body>", probe + "</body>"), "utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", profile]
    done = subprocess.run([BROWSER, *flags, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
    title = re.search("<title>(.*?)</title>", done.stdout, re.S)
    assert title, done.stderr
    return json.loads(unescape(title[1]))


def content(blocks, prefix=""):
    report, search = many_layers(blocks, prefix)
    return {"report": report.to_dict(), "search": search.to_dict()}


@pytest.mark.parametrize(
    ("blocks", "prefix", "width"),
    [(12, "", 1400), (3, "model.visual_encoder.backbone.transformer.encoder.layers_of_the_first_stage.", 600)],
)
def test_layout(tmp_path, blocks, prefix, width):
    found = in_browser(LAYOUT, tmp_path, content(blocks, prefix), width)
    assert found["texts"] > 100
    assert found["faults"] == []
    assert found["excess"] <= 0
    # The names stand beside their rows, in the figure of the layers and in that of the folding.
    assert len(found["rows"]) == 2
    for missing, apart in found["rows"]:
        assert missing == 0 and apart < 0.5


def test_sorting(tmp_path):
    values = content(3)
    found = in_browser(SORT, tmp_path, values)
    layers = values["report"]["layers"]
    bits = [layer["weight_bits"] for layer in layers]
    known = sorted(item for item in bits if item is not None)
    missing = ["-"] * bits.count(None)
    assert missing
    assert found["before"] == [layer["name"] for layer in layers]
    assert found["up"] == [*map(str, known), *missing]
    assert found["down"] == [*map(str, known[::-1]), *missing]
    assert found["names"] == sorted(found["before"])
    assert len(found["costs"]) == len(layers)
    assert found["marks"] == [["products", "ascending"]]
