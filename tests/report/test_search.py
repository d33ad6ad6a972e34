"""The values of a search."""

import json
from dataclasses import FrozenInstanceError

import pytest

from qcompiler.report.search import FoldedNorm, LayerAnalysis, PlanPoint, SearchReport

from .search_samples import SEARCH


def test_plain_values_survive_json():
    values = json.loads(json.dumps(SEARCH.to_dict(), allow_nan=False))
    again = SearchReport(
        points=tuple(PlanPoint(**point) for point in values["points"]),
        layers=tuple(LayerAnalysis(**layer) for layer in values["layers"]),
        norms=tuple(FoldedNorm(n["name"], tuple(n["before"]), tuple(n["after"])) for n in values["norms"]),
        budget=values["budget"],
        lrp_rule=values["lrp_rule"],
        conservation=values["conservation"],
    )
    assert again == SEARCH


def test_nothing_searched():
    empty = SearchReport((), (), (), None, None, {})
    assert empty.to_dict() == {
        "points": [],
        "layers": [],
        "norms": [],
        "budget": None,
        "lrp_rule": None,
        "conservation": {},
    }


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        SEARCH.budget = 0.5
