"""One output of two models, against formulas by hand."""

import numpy as np
import pytest

from qcompiler.evaluation.output_agreement import OutputComparison


def compared(*batches):
    comparison = OutputComparison()
    for expected, found, images in batches:
        comparison.add(np.asarray(expected, np.float64), np.asarray(found, np.float64), images)
    return comparison.result()


def test_a_map_has_error_and_psnr_and_no_classes():
    expected, found = np.zeros((2, 1, 2, 2)), np.zeros((2, 1, 2, 2))
    expected[0], found[0] = 4.0, 3.0
    result = compared((expected[:1], found[:1], 1), (expected[1:], found[1:], 1))
    assert result.relative_error == pytest.approx(1 / 4)
    assert result.psnr == pytest.approx(10 * np.log10(4**2 / (4 / 8)))  # values from 0 to 4; mean square of 8 values
    assert (result.agreement, result.agreement_se, result.kl) == (None, None, None)


def test_class_scores():
    result = compared(([[1, 0], [0, 3], [2, 0], [0, 1]], [[1, 0], [3, 0], [2, 0], [0, 1]], 4))
    assert result.agreement == 75
    assert result.agreement_se == pytest.approx(100 * np.sqrt(4 * 0.75 * 0.25 / 3 / 4))
    assert result.kl == pytest.approx(3 * np.tanh(1.5) / 4)


@pytest.mark.parametrize("shape", [(4, 1), (8, 2), (4,), (4, 2, 1), (4, 2, 2)], ids=str)
def test_what_is_no_row_of_class_scores_per_image(shape):
    assert compared((np.ones(shape), np.ones(shape), 4)).agreement is None


@pytest.mark.parametrize(
    ("expected", "found", "error"),
    [([[1.0], [1.0]], [[1.0], [2.0]], np.sqrt(0.5)), ([[1.0], [2.0]], [[1.0], [2.0]], 0), ([[0.0]], [[3.0]], 3)],
    ids=["no range", "no difference", "nothing to relate to"],
)
def test_no_psnr(expected, found, error):
    result = compared((expected, found, len(expected)))
    assert result.psnr is None
    assert result.relative_error == pytest.approx(error)
