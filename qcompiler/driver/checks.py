"""What is refused before or after the work: an output that is the input, a budget not met, a file that does not run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from qcompiler.allocation.widths import LayerProduct, fraction_of_w8a8
from qcompiler.calibration.inputs import Feed
from qcompiler.driver.runtime import quantized_session
from qcompiler.errors import BudgetError, CollapseError, OutputPathError, RuntimeLibraryError, VerificationError
from qcompiler.evaluation.agreement import Agreement
from qcompiler.evaluation.runs import float_outputs
from qcompiler.options import CompileOptions
from qcompiler.quant.plan import Widths
from qcompiler.report.values import CompileReport

# The float model agrees with itself on all images: below a third of that nothing useful is left.
LEAST_AGREEMENT = 100 / 3  # percent
MOST_ERROR = 1.0  # as much as an output of zeros has
TOLERANCE = 1e-9  # of a budget: what float arithmetic may add to a plan that meets it exactly


def check_output(source: Path | None, output: Path | None) -> None:
    """Refuse an output that is the input.

    Raises:
        OutputPathError: They are the same file.
    """
    if source is None or output is None:
        return
    if output.resolve() == source.resolve() or (output.exists() and source.exists() and output.samefile(source)):
        raise OutputPathError(f"the output '{output}' is the input model; give another path with -o")


def check_bits(options: CompileOptions, products: list[LayerProduct], centre: Widths) -> None:
    """Refuse ``--bits`` that a budget given beside them does not pay for.

    Raises:
        BudgetError: They cost more.
    """
    if options.bits is None or options.bop_budget is None:
        return
    spent = fraction_of_w8a8(products, centre)
    if spent > options.bop_budget * (1 + TOLERANCE):
        raise BudgetError(
            f"--bits {centre} costs {math.ceil(spent * 1e4) / 1e4:.4f} of W8A8, more than "
            f"--bop-budget {options.bop_budget:g}; "
            "raise the budget or leave --bits out"
        )


def check_cost(options: CompileOptions, report: CompileReport) -> None:
    """Refuse a model that costs more than a budget allows: a plan from a file or fixed widths cannot be made smaller.

    Raises:
        BudgetError: It does; the message names a budget that is enough.
    """
    bops, size = report.bops, options.size_budget
    if options.bits is None:  # their cost is checked before the work, and their budget may be none at all
        _refuse("--bop-budget", options.bop_budget, bops.fraction_of_w8a8, "costs {} of the bit operations of W8A8")
    _refuse("--overhead-budget", options.overhead_budget, bops.overhead, "has bookkeeping of {} of its products")
    _refuse("--size-budget", size, report.size_ratio, "takes {} of the float model's size")


def _refuse(option: str, budget: float | None, spent: float, problem: str) -> None:
    if budget is not None and spent > budget * (1 + TOLERANCE):
        needed = f"{math.ceil(spent * 1e4) / 1e4:g}"
        raise BudgetError(
            f"the model {problem.format(needed)} and {option} allows {budget:g}; give {option} {needed} or more, or "
            "narrower widths"
        )


def check_collapse(options: CompileOptions, agreement: Agreement) -> str | None:
    """Refuse a model in which hardly anything of the float model is left.

    Predictions are compared where an output is one row of class scores per image, values elsewhere.

    Args:
        options: Say whether that is allowed.
        agreement: Float against quantized on the calibration images.

    Returns:
        A warning where it is allowed and has happened, else None.

    Raises:
        CollapseError: An output agrees on less than a third of the images, or its error is larger than itself.
    """
    problem = _collapsed(agreement)
    if problem is None:
        return None
    if options.allow_collapse:
        return f"the quantized model has collapsed: it {problem}"
    raise CollapseError(
        f"the quantized model {problem}: it has collapsed, and nothing was written; raise the budget or give wider "
        "--bits, calibrate on images like those that the model was trained on, or write it all the same with "
        "--allow-collapse"
    )


def _collapsed(agreement: Agreement) -> str | None:
    for name, output in agreement.outputs.items():
        where = f" in output '{name}'" if len(agreement.outputs) > 1 else ""
        if output.agreement is None:
            if output.relative_error > MOST_ERROR:
                return f"has an output '{name}' whose relative error is {output.relative_error:.2f}"
        elif output.agreement < LEAST_AGREEMENT:
            share = f"{output.agreement:.1f} % of {agreement.images} calibration images"
            return f"agrees with the float model on {share}{where}"
    return None


def check_written(path: Path, feed: Feed, threads: int) -> None:
    """Load the written model and run it once.

    Raises:
        VerificationError: It does not load, or its output is not finite.
    """
    try:
        outputs = float_outputs(quantized_session(path, threads))(feed)
    except (RuntimeLibraryError, VerificationError):
        raise
    except Exception as error:
        raise VerificationError(f"'{path}' was written but does not run: {str(error).splitlines()[0]}") from error
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise VerificationError(f"'{path}' was written but its output '{name}' holds NaN or infinity")
