"""Comparisons of finished models as text: accuracy, outputs without classes, latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group

from qcompiler.evaluation.accuracy import Accuracy
from qcompiler.evaluation.agreement import Agreement
from qcompiler.evaluation.latency import Latency
from qcompiler.report.tables import table


def accuracy_table(results: Sequence[Accuracy], source: str) -> Group:
    """Top-1, the paired drop against the first model, agreement with it and divergence from it.

    Args:
        results: One result per model, the float model first.
        source: Where the images come from.
    """
    rows = [
        (
            item.model,
            f"{item.top1:.2f} +- {item.top1_se:.2f}",
            None if number == 0 else f"{item.drop:.2f} +- {item.drop_se:.2f}",
            None if number == 0 else f"{item.agreement:.2f}",
            None if number == 0 else f"{item.kl:.4f}",
        )
        for number, item in enumerate(results)
    ]
    numbers = ("top-1 %", "drop (points)", "agreement %", "KL")
    draws = max(item.draws for item in results)
    times = f", mean of {draws} draws" if draws > 1 else ""
    return table(f"Accuracy on {source}{times}", ("model",), numbers, rows)


def outputs_table(results: Mapping[str, Agreement], source: str) -> Group:
    """Relative error and peak signal-to-noise ratio of every output against the float model's.

    Args:
        results: Label of a model -> its agreement with the float model.
        source: Where the images come from.
    """
    rows = [
        (
            label,
            name,
            f"{item.relative_error:.4f}",
            None if item.psnr is None else f"{item.psnr:.1f}",
            None if item.agreement is None else f"{item.agreement:.2f}",
        )
        for label, result in results.items()
        for name, item in result.outputs.items()
    ]
    numbers = ("relative error", "PSNR (dB)", "agreement %")
    return table(f"Outputs on {source}", ("model", "output"), numbers, rows, optional=("agreement %",))


def latency_table(results: Sequence[Latency]) -> Group:
    """Milliseconds per run and the speed relative to the first model, with the quartiles over the rounds."""
    first = results[0]
    rows = [
        (item.model, f"{item.ms:.3f}", f"{item.ratio:.2f}", f"{item.ratio_low:.2f} .. {item.ratio_high:.2f}")
        for item in results
    ]
    threads = "1 thread" if first.threads == 1 else f"{first.threads or 'all'} threads"
    title = f"Latency at batch {first.batch}, {threads}, {first.rounds} interleaved rounds"
    return table(title, ("model",), ("ms", "times float", "quartiles"), rows)
