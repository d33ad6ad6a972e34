"""`qcompile MODEL`: from a float model to a quantized one."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType

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
from qcompiler.cli.paths import check_output, default_output, existing_model, given
from qcompiler.cli.terminal import Terminal
from qcompiler.errors import OptionError
from qcompiler.options import ACTIVATIONS, DEFAULT_BOP_BUDGET, GROUPINGS, METHODS, STAGES, CompileOptions
from qcompiler.report import text
from qcompiler.report.coverage_text import float_table
from qcompiler.report.values import CompileReport

if TYPE_CHECKING:
    from qcompiler.driver.preprocessing import Preprocessing

_DESCRIPTION = """\
Quantize a float ONNX vision transformer and write an ONNX model whose linear layers and attention run on low-bit
integers, in ONNX Runtime with or without the operator library.

Other commands:
  qcompile analyze MODEL --calib DATA       relevance and sensitivity of each layer, without compiling
  qcompile inspect MODEL                    what each layer of a written model became, from the file alone
  qcompile eval FLOAT MODEL... --images I   top-1, drop and agreement on labelled images
  qcompile bench FLOAT MODEL...             latency, interleaved, as a ratio to float
  qcompile export timm:NAME -o FILE         write a float model with torch (needs the extra 'models')
  qcompile compile-timm NAME --calib DATA   the same and a compilation in one step
  qcompile deploy MODEL --target SERVER     a complete folder for Triton, MLServer or a Docker image
  qcompile verify MODEL [--against FLOAT]   a written file checked again, with an exit code
"""
_EXAMPLES = """\
examples:
  qcompile vit.onnx --method igq --bop-budget 0.25 --calib images/ --preset half -o vit.igq.onnx
  qcompile vit.onnx --bits w4a4 --calib calib.npz
  qcompile vit.onnx --latency-budget 0.4 --calib images/ --preset half
  qcompile vit.onnx --bop-budget 0.3 --size-budget 0.15 --calib images/ --preset half --report report/
"""


def build_parser() -> Parser:
    """All flags of the command."""
    parser = Parser("qcompile", _DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="float model, an .onnx file, or a folder as Hugging Face Optimum writes it; it is never changed",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write (default: <stem>.<method>.onnx beside MODEL); for a folder, the folder to write or a file",
    )
    add_compile_flags(parser)
    return parser


def add_compile_flags(parser: Parser) -> None:
    """Everything but the model and the output."""
    default = CompileOptions()
    method = parser.add_argument_group("quantization")
    method.add_argument("--method", choices=METHODS, default=default.method, help="default: %(default)s")
    method.add_argument(
        "--bop-budget",
        type=float,
        metavar="F",
        help="bit operations of the integer products as a fraction of W8A8 "
        f"(default: {DEFAULT_BOP_BUDGET:g}, the cost of W4A4; not limited when --bits or --latency-budget is given)",
    )
    method.add_argument(
        "--latency-budget",
        type=float,
        metavar="F",
        help="time of the written model for one image on one thread of this machine, as a fraction of MODEL's; what "
        "operators cost is measured once per machine and kept in $QCOMPILER_CACHE (default: no limit)",
    )
    method.add_argument(
        "--size-budget",
        type=float,
        metavar="F",
        help="size of the written model as a fraction of MODEL's (default: no limit)",
    )
    method.add_argument(
        "--bits", metavar="wXaY", help="widths of weights and activations, e.g. w4a4, instead of the budget's"
    )
    method.add_argument(
        "--bits-file", type=Path, metavar="FILE", help="a plan written by --save-plan, or edited by hand: no search"
    )
    method.add_argument("--save-plan", type=Path, metavar="FILE", help="write the plan as JSON")
    method.add_argument(
        "--strict-bits",
        action="store_true",
        help="no multiples or zero points per block of channels: only codes, and scales per token, channel or group",
    )
    add_measurement_flags(method)
    method.add_argument(
        "--overhead-budget",
        type=float,
        metavar="F",
        default=default.overhead_budget,
        help="bookkeeping of the groups as a fraction of the products: what group counts are bought with "
        "(default: %(default)s)",
    )
    method.add_argument(
        "--groups",
        choices=GROUPINGS,
        default=default.groups,
        help="scales of channel groups: integer multiples of one base scale, so that a layer is one integer product, "
        "or exact, one product per group (default: %(default)s)",
    )
    method.add_argument(
        "--first-last-bits",
        type=int,
        metavar="N",
        default=default.first_last_bits,
        help="width of patch embedding and head (default: %(default)s)",
    )
    method.add_argument(
        "--activations",
        choices=ACTIVATIONS,
        default=default.activations,
        help="type of the tensors between operators: float16 is for servers with CUDA, and the file runs on processors "
        "too; inputs and outputs keep their types (default: %(default)s)",
    )
    add_calibration_flags(parser)
    add_preprocessing_flags(parser)
    work = parser.add_argument_group("compilation")
    work.add_argument(
        "--stop-after",
        choices=STAGES[:-1],
        default=STAGES[-1],
        help="write the graph of an earlier stage: the canonical float graph, or the readable quantized one",
    )
    add_resume_flag(work, "statistics, sensitivities and tried plans", "<output>.resume")
    work.add_argument("--report", type=Path, metavar="DIR", help="write report.html and report.json into DIR")
    work.add_argument("--verify-each", action="store_true", help="check the graph after every pass, not every stage")
    work.add_argument(
        "--allow-collapse",
        action="store_true",
        help="write the model also when it agrees with the float one on less than a third of the calibration images",
    )
    work.add_argument("--explain", metavar="PASS", help="print what this pass looked at and left alone, and why")
    work.add_argument(
        "--threads",
        type=thread_count,
        metavar="N",
        default=default.threads,
        help="threads of ONNX Runtime, 0 for all cores",
    )
    add_output_flags(parser)


def run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Compile and report.

    Raises:
        QcompilerError: Something that the user can fix; nothing was written then.
    """
    options = options_of(arguments)
    if arguments.model.is_dir():
        from qcompiler.cli.compile_folder import compile_folder

        compile_folder(arguments, terminal)
        return
    model = existing_model(arguments.model)
    compile_file(arguments, terminal, model, arguments.output or default_output(model, options.method))


def compile_file(
    arguments: argparse.Namespace,
    terminal: Terminal,
    model: Path,
    output: Path,
    preprocessing: Preprocessing | None = None,
    name: str | None = None,
) -> None:
    """Compile one file and report.

    Args:
        arguments: The flags.
        terminal: Where results go.
        model: The float model.
        output: Where to write.
        preprocessing: What goes with the model; flags go before it.
        name: What the results call the model; None for its path.

    Raises:
        QcompilerError: Something that the user can fix; nothing was written then.
    """
    options = options_of(arguments)
    if options.resume == Path():
        options = replace(options, resume=output.with_name(f"{output.name}.resume"))
    _check_paths(arguments, model, output)
    if arguments.explain is not None:
        _check_pass(arguments.explain)
    preprocessing = preprocessing_of(arguments) or preprocessing

    from qcompiler import driver  # behind the checks: importing the driver takes a second

    with terminal.progress() as progress:
        result = driver.compile_model(
            model, options, arguments.calib, preprocessing=preprocessing, output=output, progress=progress
        )
    report = result.report
    terminal.warn(report.warnings)
    if getattr(result, "resumed", None) is not None:
        terminal.show(f"resumed: {result.resumed}")
    content = {"model": name or str(model), "output": str(output), **report.to_dict()}
    terminal.result(content)
    if arguments.report is not None:
        search = result.search.to_dict() if result.search is not None else None
        driver.write_report(
            {"model": name or model.name, "report": report.to_dict(), "search": search}, arguments.report
        )
    if terminal.verbose:
        terminal.show(text.pass_table(report.passes), text.stage_table(report.seconds), text.layer_table(report.layers))
        if report.coverage is not None and report.coverage.left:
            terminal.show(float_table(report.coverage))
    if arguments.explain is not None:
        terminal.show(_explanation(report, arguments.explain))
    terminal.show(text.summary(report, Path(name) if name else model, output))


def options_of(arguments: argparse.Namespace) -> CompileOptions:
    """The flags as options.

    Raises:
        OptionError: A value makes no sense.
    """
    return CompileOptions(
        method=arguments.method,
        bits=arguments.bits,
        bop_budget=arguments.bop_budget,
        bits_file=arguments.bits_file,
        save_plan=arguments.save_plan,
        size_budget=arguments.size_budget,
        latency_budget=arguments.latency_budget,
        strict_bits=arguments.strict_bits,
        effort=arguments.effort,
        executor=arguments.executor,
        lrp_rule=arguments.lrp_rule,
        overhead_budget=arguments.overhead_budget,
        groups=arguments.groups,
        first_last_bits=arguments.first_last_bits,
        activations=arguments.activations,
        images=arguments.images,
        stop_after=arguments.stop_after,
        verify_each=arguments.verify_each,
        allow_collapse=arguments.allow_collapse,
        threads=arguments.threads,
        stats=arguments.stats,
        save_stats=arguments.save_stats,
        resume=arguments.resume,
    )


def _check_paths(arguments: argparse.Namespace, model: Path, output: Path) -> None:
    """Nothing that is read is written, and every file to write has a place: known before the minutes of work."""
    read = given(model, arguments.calib, arguments.stats, arguments.bits_file)
    check_output(output, "--output", read)
    if arguments.save_stats is not None:
        check_output(arguments.save_stats, "--save-stats", [*read, output])
    if arguments.save_plan is not None:
        check_output(arguments.save_plan, "--save-plan", [*read, *given(output, arguments.save_stats)])


def _check_pass(name: str) -> None:
    from qcompiler.driver.pass_names import pass_names

    known = pass_names()
    if name not in known:
        raise OptionError(f"--explain '{name}': no such pass; choose one of {', '.join(known)}")


def _explanation(report: CompileReport, name: str) -> RenderableType:
    ran = [item for item in report.passes if item.name == name]
    if not ran:
        return f"{name}: did not run"
    if not any(item.refusals for item in ran):
        return f"{name}: {sum(item.applied for item in ran)} places changed, no refusals"
    return text.refusal_table(ran, name)
