"""Latency on a clock that the test moves."""

import numpy as np
import pytest

from qcompiler.errors import OptionError
from qcompiler.evaluation.latency import measure_latency

FEED = {"x": np.zeros((4, 3))}


class Machine:
    """A clock, and models that take a given time on it; `slowdown` multiplies every time of a round."""

    def __init__(self):
        self.now = 0.0
        self.log = []
        self.slowdown = lambda: 1.0

    def model(self, name, seconds):
        def run(feed):
            assert feed is FEED
            self.log.append(name)
            self.now += seconds * self.slowdown()

        return run

    def clock(self):
        return self.now


def test_ratio_and_time():
    machine = Machine()
    models = {"float": machine.model("f", 0.04), "igq": machine.model("q", 0.01)}
    reference, quantized = measure_latency(models, FEED, rounds=3, threads=2, clock=machine.clock)
    assert (reference.model, quantized.model) == ("float", "igq")
    assert reference.ms == pytest.approx(40)
    assert quantized.ms == pytest.approx(10)
    assert reference.ratio == reference.ratio_low == reference.ratio_high == 1
    assert quantized.ratio == pytest.approx(4)
    assert (quantized.batch, quantized.threads, quantized.rounds) == (4, 2, 3)


def test_a_drift_of_the_machine_cancels():
    """Every round is 1.5 times slower than the one before: times are useless, ratios exact."""
    machine = Machine()
    models = {"float": machine.model("f", 0.02), "igq": machine.model("q", 0.01)}
    # 2 models, 1 warm-up and 9 timed runs each: a round is 20 runs.
    machine.slowdown = lambda: 1.5 ** ((len(machine.log) - 1) // 20)
    _, quantized = measure_latency(models, FEED, rounds=5, round_seconds=1e9, clock=machine.clock)
    assert quantized.ratio == pytest.approx(2)
    assert quantized.ratio_low == pytest.approx(2)


def test_rounds_are_interleaved_and_turn_around():
    machine = Machine()
    models = {"a": machine.model("a", 1.0), "b": machine.model("b", 1.0)}
    measure_latency(models, FEED, reference="a", rounds=3, round_runs=2, round_seconds=1e9, clock=machine.clock)
    # Each turn: one run that is not timed, then two.
    assert "".join(machine.log) == "aaabbb" + "bbbaaa" + "aaabbb"


def test_a_turn_ends_with_its_time_but_has_one_timed_run():
    machine = Machine()
    measure_latency({"float": machine.model("f", 10.0)}, FEED, rounds=1, clock=machine.clock)
    assert machine.log == ["f", "f"]
    machine.log.clear()
    measure_latency({"float": machine.model("f", 0.05)}, FEED, rounds=1, round_seconds=0.12, clock=machine.clock)
    assert len(machine.log) == 1 + 3  # the third timed run begins at 0.10


def test_median_ignores_a_hiccup():
    machine = Machine()
    models = {"float": machine.model("f", 0.02), "igq": machine.model("q", 0.01)}
    machine.slowdown = lambda: 50.0 if len(machine.log) in (33, 34, 35) else 1.0
    _, quantized = measure_latency(models, FEED, rounds=5, round_seconds=1e9, clock=machine.clock)
    assert quantized.ratio == pytest.approx(2)
    assert quantized.ms == pytest.approx(10)


def test_quartiles_of_the_ratios():
    machine = Machine()
    calls = []

    def growing(feed):
        """Takes 10 ms in the first round (two runs), 20 ms in the second, ..."""
        calls.append(1)
        machine.now += 0.01 * ((len(calls) + 1) // 2)

    models = {"float": growing, "igq": machine.model("q", 0.01)}
    _, quantized = measure_latency(models, FEED, rounds=5, round_runs=1, clock=machine.clock)
    # The ratios are 1, 2, 3, 4, 5.
    assert (quantized.ratio_low, quantized.ratio, quantized.ratio_high) == pytest.approx((2, 3, 4))


def test_no_rounds():
    with pytest.raises(OptionError, match="--rounds"):
        measure_latency({"float": lambda feed: None}, FEED, rounds=0)


def test_to_dict_is_plain():
    machine = Machine()
    (result,) = measure_latency({"float": machine.model("f", 0.1)}, FEED, rounds=2, clock=machine.clock)
    assert {type(value) for value in result.to_dict().values()} == {str, int, float}
