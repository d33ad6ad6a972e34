"""Budget against loss."""

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from qcompiler.report.page.plans import chosen_plan, pareto_front, plan_charts

from ..search_samples import SEARCH, many_layers

COARSE = st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5])


def point(products, loss, kept=False, label="p"):
    return {"label": label, "products": products, "overhead": 0.1, "bytes": 1000, "loss": loss, "kept": kept}


def charts(points, budget=None):
    found = plan_charts({"points": points, "budget": budget})
    return None if found is None else ET.fromstring(found)


def marks(chart, class_):
    return [item for item in chart.iter("circle") if item.get("class") == class_]


@given(st.lists(st.tuples(COARSE, COARSE), min_size=1, max_size=12))
def test_front_is_what_nothing_dominates(values):
    points = [point(*value) for value in values]
    front = [(item["products"], item["loss"]) for item in pareto_front(points)]
    dominated = {one for one in values for two in values if two != one and two[0] <= one[0] and two[1] <= one[1]}
    assert front == sorted(set(values) - dominated)


def test_chosen_is_the_last_kept():
    points = SEARCH.to_dict()["points"]
    assert chosen_plan(points)["label"] == "swap 2"
    assert chosen_plan([point(1, 1)]) is None


def test_every_plan_is_drawn_with_its_numbers():
    figure = charts(SEARCH.to_dict()["points"], 0.25)
    every, close, order = figure.find("div[@class='charts']")
    assert (len(marks(every, "kept")), len(marks(every, "tried")), len(marks(every, "chosen"))) == (2, 5, 1)
    titles = [item.text for item in every.iter("title")]
    assert (
        "swap 2: KL 0.12 nats, products 0.2485 of W8A8, bookkeeping 0.1200 of the products, weights 2.05 MB, kept"
    ) in titles
    # Close: the loss within a factor 2 and the products within 15 %; the uniform ones are outside.
    for chart in (close, order):
        assert (len(marks(chart, "kept")), len(marks(chart, "tried"))) == (2, 2)


def test_marks_are_where_their_values_are():
    every = charts(SEARCH.to_dict()["points"])[1][0]
    places = {
        item.find("title").text.split(":")[0]: item for item in every.iter("circle") if item.find("title") is not None
    }
    x = {name: float(item.get("cx")) for name, item in places.items()}
    y = {name: float(item.get("cy")) for name, item in places.items()}
    assert x["uniform w2a2"] < x["swap 1"] < x["swap 2"] < x["uniform w4a4"] < x["uniform w8a8"]
    # A doubling is as wide anywhere, and smaller losses lie lower.
    middle = (x["uniform w2a2"] + x["uniform w8a8"]) / 2
    assert abs(middle - x["uniform w4a4"]) < 0.02
    assert y["uniform w2a2"] < y["uniform w4a4"] < y["swap 1"] < y["program"] < y["swap 2"] < y["uniform w8a8"]


def test_without_a_close_up_all_plans_are_shown_in_order():
    figure = charts([point(0.25, 0.2), point(0.5, 0.1, True)])
    every, order = figure.find("div[@class='charts']")
    assert len(marks(every, "tried")) == len(marks(order, "tried")) == 1


def test_plans_without_a_loss_are_left_out():
    assert charts([]) is None
    assert charts([point(0.25, None)]) is None
    assert len(marks(charts([point(0.25, None), point(0.25, 0.1)])[1][0], "tried")) == 1


def test_a_single_plan_and_losses_of_zero():
    for points in ([point(0.25, 0.1, True)], [point(0.25, 0.0, True)], [point(0.25, 0.0), point(0.25, -1e-9, True)]):
        assert len(marks(charts(points, 0.25)[1][0], "chosen")) == 1


def test_budget_is_drawn_where_given():
    points = many_layers(1)[1].to_dict()["points"]
    for budget, lines in ((0.25, 1), (None, 0)):
        every = charts(points, budget)[1][0]
        assert sum(item.get("class") == "budget" for item in every.iter("line")) == lines
