"""Frames, axes and legends."""

import xml.etree.ElementTree as ET

from qcompiler.report.page.plot import Frame, legend
from qcompiler.report.page.scales import linear


def test_frame_places_values():
    frame = Frame(10, 20, 100, 50, linear([0.0, 4.0]), linear([0.0, 1.0]))
    assert frame.place(0, 0) == (10, 70)
    assert frame.place(4, 1) == (110, 20)
    assert frame.place(1, 0.5) == (35, 45)


def test_axes_are_named_and_marked():
    frame = Frame(10, 20, 100, 50, linear([0.0, 4.0]), linear([0.0, 1.0]))
    texts = [ET.fromstring(part).text for part in frame.axes("cost, s", "loss, nats")]
    assert {"cost, s", "loss, nats", "4", "0.75"} <= set(texts)


def test_legend():
    found = ET.fromstring(legend(("dot kept", "kept"), ("line front", "curve")))
    assert ["".join(item.itertext()) for item in found] == ["kept", "curve"]
    assert [item[0][0].tag for item in found] == ["circle", "line"]
