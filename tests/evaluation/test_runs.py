"""The adapter of sessions, and the error of a mean."""

from types import SimpleNamespace

import numpy as np
import pytest

from qcompiler.errors import NonFiniteError
from qcompiler.evaluation.runs import first_output, float_outputs, logits_of, outputs_of, standard_error


def test_logits_of_cuts_the_filling_and_keeps_rows():
    run = lambda feed: np.ones((4, 2, 3), np.float32)  # noqa: E731
    assert logits_of(run, {}, 3, "m").shape == (3, 6)
    assert logits_of(run, {}, 3, "m").dtype == np.float64


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_outputs_name_the_model(value):
    with pytest.raises(NonFiniteError, match="'igq'"):
        logits_of(lambda feed: np.array([[value, 0.0]]), {}, 1, "igq")


def test_non_finite_rows_of_the_filling_are_ignored():
    assert logits_of(lambda feed: np.array([[1.0], [np.nan]]), {}, 1, "m").tolist() == [[1.0]]


def test_standard_error():
    # Three of four hits: sqrt(sum of squares / 3) / sqrt(4) = sqrt(0.75 / 3) / 2.
    assert standard_error(np.array([1.0, 1, 1, 0])) == pytest.approx(0.25)
    assert standard_error(np.array([1.0])) == 0.0


def test_first_output_asks_for_the_first_output_only():
    class Output:
        name = "logits"

    class Session:
        def get_outputs(self):
            return [Output(), object()]

        def run(self, names, feed):
            assert names == ["logits"]
            assert type(feed) is dict
            return [feed["x"] + 1]

    assert first_output(Session())({"x": np.zeros(2)}).tolist() == [1.0, 1.0]


class Session:
    """Outputs of two types; answers with their names."""

    def __init__(self, *types):
        self.types = types

    def get_outputs(self):
        return [SimpleNamespace(name=f"y{index}", type=f"tensor({kind})") for index, kind in enumerate(self.types)]

    def run(self, names, feed):
        return [f"{name} of {feed['x']}" for name in names]


def test_float_outputs():
    assert float_outputs(Session("float", "int64", "float16"))({"x": 1}) == {"y0": "y0 of 1", "y2": "y2 of 1"}
    assert float_outputs(Session("int64", "bool"))({"x": 1}) == {"y0": "y0 of 1"}


def test_outputs_of_cuts_the_filling_by_image():
    """Of a feed of 4 images 3 count: 3 rows, 6 of 8 rows, and all of what has no rows per image."""
    made = {"rows": np.arange(4), "twice": np.arange(8), "other": np.arange(5), "scalar": np.float32(1)}
    found = outputs_of(lambda feed: made, {"x": np.zeros((4, 1))}, 3, "m")
    assert {name: values.tolist() for name, values in found.items()} == {
        "rows": [0, 1, 2],
        "twice": [0, 1, 2, 3, 4, 5],
        "other": [0, 1, 2, 3, 4],
        "scalar": 1.0,
    }
