"""The report as one self-contained HTML page, and the same values as JSON."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from qcompiler.errors import OutputPathError
from qcompiler.report.page import sections
from qcompiler.report.page.markup import Markup, tag

PAGE = "report.html"
VALUES = "report.json"

# The browser itself is told to load nothing, whatever a name in the report may contain.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write_report(content: Mapping[str, Any], directory: Path) -> list[Path]:
    """Writes ``report.html`` and ``report.json``; equal contents give equal bytes.

    The page needs no other file and no network. Each file appears complete or not at all.

    Args:
        content: ``report``: :meth:`~qcompiler.report.values.CompileReport.to_dict`; ``search``:
            :meth:`~qcompiler.report.search.SearchReport.to_dict`, or None or absent where there was no search;
            ``model``: what the page calls the model, if anything. Numbers that are not finite become null.
        directory: Folder to write to, made where it does not exist.

    Returns:
        The page and the values.

    Raises:
        OutputPathError: The folder cannot be made or written.
    """
    values = _plain(content)
    return _write(values, render_page(values), Path(directory))


def write_analysis(content: Mapping[str, Any], directory: Path) -> list[Path]:
    """Writes the files of :func:`write_report` for an analysis.

    Args:
        content: :meth:`~qcompiler.report.analysis.AnalysisResult.to_dict`, and ``model``: what the page calls it.
        directory: Folder to write to, made where it does not exist.

    Returns:
        The page and the values.

    Raises:
        OutputPathError: The folder cannot be made or written.
    """
    values = _plain(content)
    return _write(values, render_analysis(values), Path(directory))


def _write(values: Any, page: str, directory: Path) -> list[Path]:
    # The page last: whoever sees it also sees the values behind it.
    files = {VALUES: json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n", PAGE: page}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report.", dir=directory) as folder:
            for name, text in files.items():
                (Path(folder) / name).write_text(text, "utf-8", newline="\n")
            for name in files:
                os.replace(Path(folder) / name, directory / name)
    except OSError as error:
        raise OutputPathError(f"--report '{directory}': cannot be written ({error.strerror or error})") from error
    return [directory / PAGE, directory / VALUES]


def render_page(content: Mapping[str, Any]) -> str:
    """The page.

    Args:
        content: As for :func:`write_report`, of plain values without infinities.
    """
    report, search, model = content["report"], content.get("search"), content.get("model")
    parts = [
        sections.figures_of_merit(report),
        None if search is None else sections.plans(search),
        sections.layers(report, search),
        sections.left_in_float(report),
        None if search is None else sections.folding(search),
        sections.provenance(report),
    ]
    return _page(f"qcompile report: {model}" if model else "qcompile report", sections.header(report, model), parts)


def render_analysis(content: Mapping[str, Any]) -> str:
    """The page of an analysis.

    Args:
        content: As for :func:`write_analysis`, of plain values without infinities.
    """
    parts = [sections.layers({"layers": []}, content), sections.measured_with(content)]
    return _page(f"qcompile analysis: {content['model']}", sections.analysis_header(content), parts)


def _page(title: str, header: Markup, parts: Sequence[Markup | None]) -> str:
    body = [header, tag("main", parts), tag("script", _part("report.js"))]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("link", rel="icon", href="data:,"),  # else a browser asks a server for one
        tag("title", title),
        tag("style", _part("report.css")),
    ]
    return f"<!DOCTYPE html>\n{tag('html', tag('head', head), tag('body', body), lang='en')}\n"


def _part(name: str) -> Markup:
    return Markup(resources.files("qcompiler.report.page").joinpath(name).read_text("utf-8"))


def _plain(value: Any) -> Any:
    """``value`` as JSON has it: numbers of NumPy become Python's, what is not finite becomes None."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a report holds no {type(value).__name__}")
