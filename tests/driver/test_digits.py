"""The shipped model, end to end, with few images."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import qcompiler.models
from qcompiler import runtime_ops
from qcompiler.driver import compile_model
from qcompiler.driver.compile import quantized_session
from qcompiler.ir.loading import load_model

from .runs import fast, plain, relative

SHIPPED = Path(qcompiler.models.__file__).parent


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The model at W4A4 under the default overhead budget, written to a file, and the evaluation images."""
    output = tmp_path_factory.mktemp("digits") / "digits.w4a4.onnx"
    result = compile_model(SHIPPED / "digits_vit.onnx", fast(bits="w4a4", overhead_budget=0.125), output=output)
    with np.load(SHIPPED / "digits_vit.eval.npz") as held:
        feed, labels = {"input": held["input"]}, held["labels"]
    return SimpleNamespace(
        result=result,
        output=output,
        feed=feed,
        labels=labels,
        float=plain(load_model(SHIPPED / "digits_vit.onnx"), feed),
        plain=plain(result.model, feed),
    )


def top1(logits, labels):
    return 100 * (logits.argmax(axis=1) == labels).mean()


def test_accuracy(digits):
    assert top1(digits.float, digits.labels) > 97
    assert top1(digits.plain, digits.labels) > top1(digits.float, digits.labels) - 4
    assert relative(digits.plain, digits.float) < 0.3


def test_kernels_give_the_same_answers(digits):
    try:
        runtime_ops.library_path()
    except runtime_ops.LibraryError as error:
        pytest.skip(str(error))
    found = quantized_session(digits.output, threads=1).run(None, digits.feed)[0]
    assert (found.argmax(1) == digits.plain.argmax(1)).mean() >= 0.99
    assert top1(found, digits.labels) == pytest.approx(top1(digits.plain, digits.labels), abs=0.5)
    assert relative(found, digits.plain) < 0.03


def test_size_and_cost(digits):
    report = digits.result.report
    assert report.size_ratio < 0.25
    assert report.bops.fraction_of_w8a8 == 0.25
    assert 0 < report.bops.overhead <= 0.125
    assert len(report.layers) == 1 + 4 * 5 + 1
