"""The sections of the page, from the plain values of a report and a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qcompiler.report.page.depth import depth_chart
from qcompiler.report.page.folding import folding_chart
from qcompiler.report.page.layer_table import layer_table
from qcompiler.report.page.markup import Markup, join, tag
from qcompiler.report.page.plain import exact, flat
from qcompiler.report.page.plans import chosen_plan, pareto_front, plan_charts
from qcompiler.report.page.rows import layer_rows
from qcompiler.report.page.tables import facts, number, sortable
from qcompiler.report.tables import count, duration, file_size

Values = Mapping[str, Any]

# What has a place of its own on the page; whatever else a report holds is listed as it is.
_PLACED = {
    "version", "method", "widths", "options", "calibration", "layers", "bops", "passes", "bytes_before", "bytes_after",
    "size_ratio", "agreement", "warnings", "seconds", "latency", "coverage",
}  # fmt: skip


def header(report: Values, model: str | None) -> Markup:
    """What was compiled and how, and the warnings."""
    words = [report["method"], report["widths"], f"{len(report['layers'])} quantized layers"]
    if not report["layers"]:
        words = ["canonical float graph: nothing is quantized at this stage"]
    subject = " · ".join(str(word) for word in ([model] if model else []) + words)
    return _header("qcompile report", subject, report["warnings"])


def analysis_header(analysis: Values) -> Markup:
    """What was analysed, and the warnings."""
    subject = f"{analysis['model']} · {len(analysis['layers'])} layers, nothing is quantized"
    return _header("qcompile analysis", subject, analysis["warnings"])


def _header(title: str, subject: str, warnings: Sequence[str]) -> Markup:
    lines = [tag("p", tag("strong", "Warning: "), warning, class_="warning") for warning in warnings]
    return tag("header", tag("h1", title), tag("p", subject, class_="subject"), lines)


def figures_of_merit(report: Values) -> Markup:
    """The few numbers that a reader looks for first."""
    bops, measured = report["bops"], report["agreement"]
    tiles: list[tuple[str, str, str]] = []
    if measured is not None:
        tiles += _agreement(measured)
    if report["layers"]:
        tiles += [
            (
                "Products",
                f"{bops['fraction_of_w8a8']:.4f} of W8A8",
                f"{count(bops['products'])} bit operations per image",
            ),
            ("Bookkeeping", f"{bops['overhead']:.4f} of products", f"{count(bops['bookkeeping'])} bit operations"),
            (
                "All bit operations",
                f"{bops['fraction_of_float']:.4f} of float32",
                f"{count(bops['total'])}, with {count(bops['fixed'])} of fixed layers",
            ),
        ]
    coverage = report.get("coverage")
    if coverage is not None:
        note = f"{count(coverage['quantized'])} of {count(coverage['macs'])} multiply-accumulates per image"
        tiles.append(("Quantized", f"{100 * coverage['share']:.1f} % of products", note))
    latency = report.get("latency")
    if latency is not None:
        taken = latency["measured"] if latency["measured"] is not None else latency["predicted"]
        note = f"predicted {_digits(latency['predicted'], '.3f')}, at most {latency['budget']:g}"
        tiles.append(("Latency", f"{_digits(taken, '.3f')} of float", f"{note}; {latency['path']}"))
    size = f"{report['size_ratio']:.3f} of float"
    tiles.append(("File size", size, f"{file_size(report['bytes_before'])} → {file_size(report['bytes_after'])}"))
    parts = (
        tag("div", tag("span", label), tag("strong", value), tag("span", note), class_="tile")
        for label, value, note in tiles
    )
    return tag("div", parts, class_="tiles")


def _agreement(measured: Values) -> list[tuple[str, str, str]]:
    images = f"{measured['images']} calibration images"
    error = _digits(measured["relative_error"], ".3g")
    several = len(measured.get("outputs") or ()) > 1
    of_what = f"output {measured['worst']}, the worst of {len(measured['outputs'])}" if several else "the output"
    if measured["agreement"] is None:
        psnr = measured.get("psnr")
        detail = f"{of_what}, on {images}" + ("" if psnr is None else f"; PSNR {_digits(psnr, '.1f')} dB")
        return [("Relative error", error, detail)]
    share, spread = _digits(measured["agreement"], ".1f"), _digits(measured["agreement_se"], ".1f")
    return [
        ("Agreement with float", f"{share} %", f"± {spread}, top-1 on {images}"),
        ("KL to float", f"{_digits(measured['kl'], '.3g')} nats", f"relative error of {of_what} {error}"),
    ]


def plans(search: Values) -> Markup | None:
    """Budget against loss of the plans tried."""
    charts = plan_charts(search)
    if charts is None:
        return None
    points = search["points"]
    chosen = chosen_plan(points)
    front = pareto_front([point for point in points if point["loss"] is not None])
    heads = ("products (of W8A8)", "bookkeeping (of products)", "weights, bytes", "KL, nats", "order")
    rows = [
        (
            str(point["label"]),
            "this model" if point is chosen else "kept" if point["kept"] else "not kept",
            "yes" if point in front else "",
            number(point["products"], f"{point['products']:.4f}"),
            number(point["overhead"], f"{point['overhead']:.4f}"),
            number(point["bytes"], file_size(point["bytes"])),
            number(point["loss"], _digits(point["loss"], ".4g")),
            number(index, str(index)),
        )
        for index, point in enumerate(points, 1)
    ]
    table = sortable(("plan", "outcome", "on the Pareto curve"), heads, rows)
    return _section("Budget against loss", charts, _details(f"All {len(rows)} plans as a table", table))


def layers(report: Values, search: Values | None) -> Markup | None:
    """The layers over depth, and the same as a table."""
    rows = layer_rows(report, search)
    chart = depth_chart(rows)
    if chart is None:
        return None
    notes = None
    if search is not None and search["lrp_rule"] is not None:
        arrives = ", ".join(f"{place} {_digits(value, '.4g')}" for place, value in search["conservation"].items())
        text = f"Relevance by the rule {search['lrp_rule']}"
        notes = tag("p", f"{text}; of what starts at the prediction arrives: {arrives}." if arrives else f"{text}.")
    intro = tag("p", "Layers from the input at the top to the prediction at the bottom.")
    return join([_section("Layers over depth", intro, chart, notes), _section("Layer by layer", layer_table(rows))])


def left_in_float(report: Values) -> Markup | None:
    """The products that were not quantized, with their reasons."""
    coverage = report.get("coverage")
    if coverage is None or not coverage["left"]:
        return None
    rows = [
        (item["name"], item["op"], item["reason"], number(item["macs"], _counted(item["macs"])))
        for item in coverage["left"]
    ]
    intro = tag("p", "These products run in float: nothing that is known to be right quantizes them.")
    heads = ("node", "operator", "reason")
    return _section("Left in float", intro, sortable(heads, ("multiply-accumulates",), rows))


def folding(search: Values) -> Markup | None:
    """Channel ranges before and after folding."""
    chart = folding_chart(search["norms"])
    if chart is None:
        return None
    text = "The further the channels of a normalisation are apart, the worse one scale serves them all. "
    text += "A channel without any range lies at the left end."
    return _section("Channel ranges before and after folding", tag("p", text), chart)


def provenance(report: Values) -> Markup:
    """How the model came about: options, data, passes, time."""
    parts = [
        _details("Options", facts(flat(report["options"]))),
        _details("Calibration data", facts(flat(report["calibration"]))),
        _details("Bit operations of one image", facts((name, exact(value)) for name, value in report["bops"].items())),
        _passes(report["passes"]),
    ]
    if report["agreement"] is not None:
        parts.append(_details("Agreement with float", facts(flat(report["agreement"]))))
    if report.get("latency") is not None:
        parts.append(_details("Latency on the machine that compiled", facts(flat(report["latency"]))))
    if report["seconds"]:
        whole = sum(report["seconds"].values())
        times = [(stage, f"{value:.2f} s") for stage, value in report["seconds"].items()]
        parts.append(_details(f"Time: {duration(whole)}", facts(times)))
    parts += [
        _details(
            name.replace("_", " ").capitalize(), facts(flat(value if isinstance(value, Mapping) else {name: value}))
        )
        for name, value in report.items()
        if name not in _PLACED
    ]
    return _section("How it was made", tag("p", f"Written by qcompile {report['version']}."), *parts)


def measured_with(analysis: Values) -> Markup:
    """How an analysis came about: options, data, time."""
    times = [(stage, f"{value:.2f} s") for stage, value in analysis["seconds"].items()]
    return _section(
        "How it was measured",
        tag("p", f"Written by qcompile {analysis['version']}."),
        _details("Options", facts(flat(analysis["options"]))),
        _details("Calibration data", facts(flat(analysis["calibration"]))),
        _details(f"Time: {duration(sum(analysis['seconds'].values()))}", facts(times)),
    )


def _passes(passes: Sequence[Values]) -> Markup | None:
    if not passes:
        return None
    heads = ("order", "applied", "refused", "nodes before", "nodes after")
    rows = [
        (
            item["name"],
            *map(number, (index, item["applied"], len(item["refusals"]), item["nodes_before"], item["nodes_after"])),
        )
        for index, item in enumerate(passes, 1)
    ]
    refused = [
        (item["name"], refusal["node"], refusal["reason"], str(refusal["value"]))
        for item in passes
        for refusal in item["refusals"]
    ]
    tables = [sortable(("pass",), heads, rows)]
    if refused:
        tables.append(tag("p", "Places that a pass looked at and left alone:"))
        tables.append(sortable(("pass", "node", "reason", "value"), (), refused))
    return _details(f"Passes: {len(passes)}, refusals: {len(refused)}", tables)


def _section(title: str, *parts: object) -> Markup:
    return tag("section", tag("h2", title), *parts)


def _details(title: str, *parts: object) -> Markup:
    return tag("details", tag("summary", title), *parts)


def _counted(macs: int | None) -> str:
    return "-" if macs is None else count(macs)


def _digits(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
