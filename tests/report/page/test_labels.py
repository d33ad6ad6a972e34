"""Labels beside marks: none covers another or a mark."""

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from qcompiler.report.page.labels import Box, place_labels

PLACES = st.lists(st.tuples(st.floats(0, 300), st.floats(0, 200)), min_size=1, max_size=25)


def overlap(one, two):
    return min(one[2], two[2]) - max(one[0], two[0]) > 1e-6 and min(one[3], two[3]) - max(one[1], two[1]) > 1e-6


@given(PLACES)
def test_labels_never_meet(places):
    area = Box(0, 0, 300, 200)
    labels = place_labels([(x, y, f"plan {i}") for i, (x, y) in enumerate(places)], places, area)
    boxes = []
    for label in map(ET.fromstring, labels):
        # 6 px a character and 8 px of height: about what the 11 px font covers.
        width, baseline = 6 * len(label.text), float(label.get("y"))
        left = float(label.get("x")) - {"start": 0, "middle": width / 2, "end": width}[label.get("text-anchor")]
        boxes.append((left, baseline - 8, left + width, baseline))
    dots = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    for index, box in enumerate(boxes):
        assert not any(overlap(box, other) for other in boxes[:index])
        assert not any(overlap(box, dot) for dot in dots)
        assert box[0] >= 0 and box[1] >= 0 and box[2] <= 300 and box[3] <= 200


def test_a_lonely_point_gets_its_label_and_a_crowd_one_the_first():
    area = Box(0, 0, 400, 200)
    (label,) = map(ET.fromstring, place_labels([(50, 50, "program")], [(50, 50)], area))
    assert label.text == "program"
    crowd = [(200.0, 100.0)] * 30
    placed = [
        ET.fromstring(item).text for item in place_labels([(*at, str(i)) for i, at in enumerate(crowd)], crowd, area)
    ]
    assert placed[0] == "0" and len(placed) < 30


def test_labels_stay_off_lines():
    area = Box(0, 0, 400, 200)
    right = [(50.0, 100.0), (390.0, 100.0)]
    (free,) = map(ET.fromstring, place_labels([(50, 100, "a plan")], [(50, 100)], area))
    (moved,) = map(ET.fromstring, place_labels([(50, 100, "a plan")], [(50, 100)], area, [right]))
    assert float(free.get("x")) > 50
    assert float(moved.get("x")) < 50 or not 92 < float(moved.get("y")) < 112
