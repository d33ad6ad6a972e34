"""`qcompile analyze MODEL`: relevance and sensitivity per layer, without a compilation."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from qcompiler.cli.parser import (
    Parser,
    add_calibration_flags,
    add_measurement_flags,
    add_output_flags,
    add_preprocessing_flags,
    add_resume_flag,
    preprocessing_of,
    thread_count,
)
from qcompiler.cli.paths import check_output, existing_model, given
from qcompiler.cli.terminal import Terminal
from qcompiler.options import DEFAULT_BOP_BUDGET, CompileOptions

_DESCRIPTION = """\
Measure, on unlabelled images and without compiling anything, how relevant each layer of a float vision transformer is
to its predictions (layer-wise relevance propagation), and how much of the prediction is lost when one layer alone
becomes narrower (KL divergence to the float prediction, weights and activations apart).
"""


def build_parser() -> Parser:
    """All flags of the command."""
    default = CompileOptions()
    parser = Parser("qcompile analyze", _DESCRIPTION)
    parser.add_argument("model", type=Path, metavar="MODEL", help="float model, an .onnx file; it is never changed")
    analysis = parser.add_argument_group("analysis")
    analysis.add_argument(
        "--bop-budget",
        type=float,
        metavar="F",
        help="measure the widths that a compilation with this budget would choose from, a fraction of W8A8 "
        f"(default: {DEFAULT_BOP_BUDGET:g})",
    )
    add_measurement_flags(analysis)
    analysis.add_argument(
        "--threads", type=thread_count, metavar="N", default=default.threads, help="0 for all cores (default)"
    )
    add_resume_flag(analysis, "statistics, relevance and sensitivities", "<MODEL>.resume")
    add_calibration_flags(parser)
    add_preprocessing_flags(parser)
    add_output_flags(parser)
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write a self-contained HTML page and the same as JSON"
    )
    return parser


def run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Analyse and report.

    Raises:
        QcompilerError: Something that the user can fix; nothing was written then.
    """
    options = CompileOptions(
        bop_budget=arguments.bop_budget,
        effort=arguments.effort,
        lrp_rule=arguments.lrp_rule,
        executor=arguments.executor,
        threads=arguments.threads,
        images=arguments.images,
        stats=arguments.stats,
        save_stats=arguments.save_stats,
        resume=arguments.resume,
    )
    model = existing_model(arguments.model)
    if options.resume == Path():
        options = replace(options, resume=model.with_name(f"{model.name}.resume"))
    if arguments.save_stats is not None:
        check_output(arguments.save_stats, "--save-stats", given(model, arguments.calib))
    preprocessing = preprocessing_of(arguments)

    from qcompiler import driver  # behind the checks: importing the driver takes a second
    from qcompiler.report.analysis_text import analysis_facts, sensitivity_tables

    with terminal.progress() as progress:
        result = driver.analyze_model(model, options, arguments.calib, preprocessing=preprocessing, progress=progress)
    terminal.warn(result.warnings)
    if result.resumed is not None:
        terminal.show(f"resumed: {result.resumed}")
    terminal.result({"model": str(model), **result.to_dict()})
    if arguments.report is not None:
        driver.write_analysis({"model": model.name, **result.to_dict()}, arguments.report)
    terminal.show(*sensitivity_tables(result), analysis_facts(result, model))
