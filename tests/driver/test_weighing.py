"""Factors of losses, and the moves that change them."""

from types import SimpleNamespace

import pytest

from qcompiler.driver.weighing import (
    CAUTIONS,
    RELEVANCE_POWERS,
    STRENGTHS,
    CautionMove,
    Part,
    PartMove,
    RelevanceMove,
    Weighing,
    moves,
)

INPUTS = Part("fc inputs", frozenset({("a", "input"), ("b", "input")}))
FIRST = Part("first half", frozenset({("a", "input"), ("a", "weight")}))
KINDS = {"a": "fc", "b": "fc", "s": "attention", "t": "attention"}
TABLE = SimpleNamespace(linears=["a", "b"], attentions=["s", "t"])


def test_factors_of_parts_that_overlap_multiply():
    weighing = Weighing({INPUTS: 2.0, FIRST: 0.5})
    expected = {("a", "input"): 1.0, ("a", "weight"): 0.5, ("b", "input"): 2.0, ("b", "weight"): 1.0}
    assert {key: weighing.factor(*key) for key in expected} == expected


def test_moves_leave_what_they_do_not_change():
    weighing = Weighing({INPUTS: 2.0}, 0.5)
    again = PartMove(INPUTS, 2.0)(weighing)
    assert (again.parts, again.relevance_power) == ({INPUTS: 4.0}, 0.5)
    other = PartMove(FIRST, 0.5)(weighing)
    assert other.parts == {INPUTS: 2.0, FIRST: 0.5}
    softer = RelevanceMove(0.25)(weighing)
    assert (softer.parts, softer.relevance_power) == ({INPUTS: 2.0}, 0.25)
    careful = CautionMove(8.0)(weighing)
    assert (careful.parts, careful.relevance_power, careful.caution) == ({INPUTS: 2.0}, 0.5, 8.0)
    assert weighing == Weighing({INPUTS: 2.0}, 0.5)


@pytest.mark.parametrize("relevance", [False, True])
@pytest.mark.parametrize("count", [0, 2, 20])
def test_so_many_moves_powers_of_relevance_and_caution_first(count, relevance):
    found = list(moves(TABLE, KINDS, count, relevance=relevance))
    assert len(found) == count
    powers = [move.power for move in found if isinstance(move, RelevanceMove)]
    assert powers == (list(RELEVANCE_POWERS[:count]) if relevance else [])
    assert found[: len(powers)] == [RelevanceMove(power) for power in powers]
    careful = [move.caution for move in found if isinstance(move, CautionMove)]
    assert careful == (list(CAUTIONS[: max(count - len(powers), 0)]) if relevance else [])


def test_every_part_in_turn_both_ways():
    names = [str(move) for move in moves(TABLE, KINDS, 12, relevance=False)]
    labels = ["first half", "fc input", "fc weight", "attention scores", "attention mixing"]
    assert names[:10] == [f"{label} x {strength:g}" for label in labels for strength in STRENGTHS]
    assert names[10:] == names[:2]
    first = next(iter(moves(TABLE, KINDS, 1, relevance=False))).part
    assert first.members == {("a", "input"), ("a", "weight"), ("s", "scores"), ("s", "mixing")}


def test_a_model_without_layers_has_no_parts():
    assert list(moves(SimpleNamespace(linears=[], attentions=[]), {}, 5, relevance=False)) == []
