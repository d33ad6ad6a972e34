"""The report of the shipped model as a page of the site, drawn from its values when the site is built.

The values are those of `qcompile models/digits_vit.onnx --bop-budget 0.25 --report DIR`.
"""

from __future__ import annotations

import json
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from qcompiler.report.html import render_page

PAGE = "report.html"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the page among the files of the site."""
    values = json.loads((Path(config.docs_dir) / "report.json").read_text("utf-8"))
    files.append(File.generated(config, PAGE, content=render_page(values)))
    return files
