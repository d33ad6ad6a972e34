"""What is measured and what is found in the cache, with times that a test knows."""

from dataclasses import replace

import numpy as np
import pytest

from qcompiler.latency import costs
from qcompiler.latency.cache import LatencyCache
from qcompiler.latency.costs import MeasuredCosts
from qcompiler.latency.kinds import LinearKind
from qcompiler.latency.prediction import TimePrediction, TimeShares
from qcompiler.latency.shapes import AttentionShape, LinearShape
from qcompiler.latency.timing import times_over
from qcompiler.latency.widths import WidthTimes, compare_widths

SMALL, LARGE, HEADS = LinearShape(1, 4, 8, 8), LinearShape(1, 4, 8, 32), AttentionShape(1, 4, 2, 4)
KIND = LinearKind(SMALL, "rows", 8, 8, False, False, True, 8, False)
TIMES = {8: 0.5, 4: 0.25}  # by the width of the weights


class Clock:
    """Times by the label of a run, and a list of the rounds that were run."""

    def __init__(self, monkeypatch):
        self.rounds = []
        monkeypatch.setattr(costs, "timed", lambda *_: lambda: None)
        monkeypatch.setattr(costs, "times_over", self.times_over)

    def times_over(self, reference, runs, threads):
        assert (reference, threads) == (costs.FLOAT, 1)
        labels = [label for label in runs if label != reference]
        self.rounds.append(labels)
        return {reference: 1.0} | {label: self.of(label) for label in labels}

    def of(self, label):
        if label.startswith("model "):
            return {repr(SMALL): 0.1, repr(LARGE): 0.3, repr(HEADS): 0.05}[label.removeprefix("model ")]
        return TIMES[8 if "weight_bits=8" in label else 4] * (1 if "activation_bits=8" in label else 0.5)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def measured(machine, folder):
    return MeasuredCosts(machine, LatencyCache(machine, folder))


def test_each_class_is_measured_once(machine, tmp_path, clock):
    kinds = [KIND, replace(KIND, weight_bits=4), KIND, replace(KIND, shape=LARGE)]
    wanted = {KIND: 0.5, kinds[1]: 0.25, kinds[3]: 0.5}
    found = measured(machine, tmp_path)
    assert found.ratios(kinds) == wanted
    assert sorted(map(len, clock.rounds)) == [1, 2]  # the operators of one shape in the same rounds
    assert found.ratios(kinds) == wanted
    assert measured(machine, tmp_path).ratios(kinds) == wanted
    assert len(clock.rounds) == 2


def test_only_what_is_missing_is_measured(machine, tmp_path, clock):
    measured(machine, tmp_path).ratios([KIND])
    measured(machine, tmp_path).ratios([KIND, replace(KIND, weight_bits=4)])
    assert clock.rounds == [[repr(KIND)], [repr(replace(KIND, weight_bits=4))]]


def test_a_broken_cache_or_another_machine_is_measured_anew(machine, tmp_path, clock):
    measured(machine, tmp_path).ratios([KIND])
    measured(replace(machine, processor="Other"), tmp_path).ratios([KIND])
    assert len(clock.rounds) == 2
    for path in tmp_path.iterdir():
        path.write_text("{", "utf-8")
    assert measured(machine, tmp_path).ratios([KIND]) == {KIND: 0.5}
    assert len(clock.rounds) == 3


def test_one_measurement_serves_its_whole_class(machine, tmp_path, clock):
    where = replace(machine, path="amx")
    kinds = [replace(KIND, activation_bits=bits) for bits in (2, 4, 8)]
    assert len(set(measured(where, tmp_path).ratios(kinds).values())) == 1
    assert [len(labels) for labels in clock.rounds] == [1]


def test_shares_of_one_image(machine, tmp_path, clock):
    feed = {"x": np.zeros((2, 3))}
    for _ in range(2):
        found = measured(machine, tmp_path).shares("model", lambda _: None, feed, [SMALL, LARGE, SMALL, HEADS])
        assert found == {SMALL: 0.2, LARGE: 0.6, HEADS: 0.1}  # a batch of two takes twice as long
    assert len(clock.rounds) == 1
    assert len(clock.rounds[0]) == 3


def test_a_prediction_adds_up(machine, tmp_path, clock):
    shapes = {"a": SMALL, "b": LARGE, "c": SMALL}
    shares = TimeShares.of(shapes, {SMALL: 0.1, LARGE: 0.3})
    assert shares.rest == pytest.approx(0.5)
    prediction = TimePrediction(shares, measured(machine, tmp_path))
    kinds = {"a": KIND, "b": replace(KIND, shape=LARGE, weight_bits=4), "c": replace(KIND, weight_bits=4)}
    assert prediction.whole(kinds) == pytest.approx(0.5 + 0.1 * 0.5 + 0.3 * 0.25 + 0.1 * 0.25)
    assert prediction.time("b", kinds["b"]) == pytest.approx(0.3 * 0.25)


def test_layers_that_alone_take_longer_than_the_model():
    shares = TimeShares.of({"a": SMALL, "b": LARGE}, {SMALL: 0.5, LARGE: 0.75})
    assert shares.rest == 0
    assert shares.layers == {"a": pytest.approx(0.4), "b": pytest.approx(0.6)}


def test_widths_are_compared_where_they_are_measured(machine, tmp_path, clock):
    """Also on a path whose widths share one measurement otherwise, and on the largest layer."""
    found = compare_widths(measured(replace(machine, path="amx"), tmp_path), [SMALL, LARGE])
    assert found == WidthTimes("amx", w4a8=0.5, w8a4=0.5, w4a4=0.25)
    (labels,) = clock.rounds
    assert len(labels) == 4
    assert all(repr(LARGE) in label for label in labels)
    compare_widths(measured(replace(machine, path="amx"), tmp_path), [SMALL, LARGE])
    assert len(clock.rounds) == 1


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ((0.98, 1.02, 1.0), "widths below 8 bits make nothing faster: w4a4 takes 1.00 of the time of w8a8"),
        ((0.7, 1.01, 0.7), "4-bit activations cost the same as 8-bit ones, 4-bit weights take 0.70 of the time"),
        ((1.0, 0.8, 0.8), "4-bit activations take 0.80 of the time of 8-bit ones, 4-bit weights cost the same"),
    ],
)
def test_what_widths_are_worth_in_words(times, words):
    text = WidthTimes("amx", *times).sentence()
    assert text.startswith("on this processor (amx) ")
    assert words in text


def test_ratios_of_times():
    """A run that does ten times as much takes longer; how much longer is not asserted."""
    x = np.random.default_rng(0).standard_normal((64, 64))

    def work(times):
        return lambda: sum(x @ x for _ in range(times))

    found = times_over("one", {"one": work(1), "many": work(10)}, 1)
    assert found["one"] == 1
    assert found["many"] > 0
