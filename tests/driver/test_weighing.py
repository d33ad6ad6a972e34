"""Factors of losses, and the moves that change them."""

from types import SimpleNamespace

import pytest

from qcompiler.driver.weighing import (
    CAUTION_OF_PARTS,
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


@pytest.mark.parametrize("caution", CAUTIONS)
def test_parts_are_moved_where_they_can_change_something(caution):
    moved = PartMove(INPUTS, 2.0)(Weighing(caution=caution))
    assert moved.caution == min(caution, CAUTION_OF_PARTS)
    assert CAUTIONS[0] < CAUTION_OF_PARTS < CAUTIONS[-1]


@pytest.mark.parametrize("relevance", [False, True])
@pytest.mark.parametrize("count", [2, 20])
def test_powers_of_relevance_and_caution_first(count, relevance):
    found = list(moves(TABLE, KINDS, count, relevance=relevance))
    powers = [RelevanceMove(power) for power in RELEVANCE_POWERS] if relevance else []
    once = [*powers, *(CautionMove(caution) for caution in CAUTIONS)]
    assert found[: len(once)] == once
    assert all(isinstance(move, PartMove) for move in found[len(once) :])
    assert len(found) == len(once) + count


def test_nothing_is_tried_where_nothing_is_asked_for():
    assert list(moves(TABLE, KINDS, 0, relevance=True)) == []


def test_every_part_in_turn_both_ways():
    found = [move for move in moves(TABLE, KINDS, 14, relevance=False) if isinstance(move, PartMove)]
    labels = ["first half", "weights", "fc input", "fc weight", "attention scores", "attention mixing"]
    names = [str(move) for move in found]
    assert names[:12] == [f"{label} x {strength:g}" for label in labels for strength in STRENGTHS]
    assert names[12:] == names[:2]
    assert found[0].part.members == {("a", "input"), ("a", "weight"), ("s", "scores"), ("s", "mixing")}
    assert found[2].part.members == {("a", "weight"), ("b", "weight")}


def test_a_model_without_layers_has_no_parts():
    found = moves(SimpleNamespace(linears=[], attentions=[]), {}, 5, relevance=False)
    assert not any(isinstance(move, PartMove) for move in found)
