"""Plans that get their final weights: the best, and the most cautious one within reach."""

import pytest

from qcompiler.driver.finals import IN_REACH, Tried, finals
from qcompiler.driver.weighing import Weighing
from qcompiler.quant.choices import Choices
from qcompiler.report.search import PlanPoint


def tried(*plans):
    """Plans of (loss, caution), named by their place."""
    return [
        Tried(Choices({}, {}), Weighing(caution=caution), PlanPoint(str(index), 0.25, 0.1, 1, loss, kept=False))
        for index, (loss, caution) in enumerate(plans)
    ]


def names(plans, count):
    return [item.point.label for item in finals(tried(*plans), count)]


def test_the_best_first():
    assert names([(0.5, 1), (0.4, 1), (0.45, 1), (0.48, 1)], 3) == ["1", "2", "3"]


def test_the_most_cautious_one_takes_the_last_place():
    plans = [(0.5, 8), (0.4, 1), (0.45, 2.5), (0.48, 1)]
    assert names(plans, 3) == ["1", "2", "0"]
    assert names(plans, 4) == ["1", "2", "3", "0"]
    assert names(plans, 1) == ["1"]


def test_plans_out_of_reach():
    assert names([(0.4, 1), (0.4 * IN_REACH + 0.01, 8), (0.4 * IN_REACH - 0.01, 1)], 5) == ["0", "2"]


def test_fewer_plans_than_places():
    assert names([(0.4, 1)], 6) == ["0"]


@pytest.mark.parametrize("count", [1, 2, 6])
def test_equal_plans_keep_their_order(count):
    assert names([(0.4, 1)] * 4, count) == [str(index) for index in range(min(count, 4))]
