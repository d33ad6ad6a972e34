"""Stages last until the next one, and progress is passed on."""

import pytest

from qcompiler.driver import stage_clock
from qcompiler.driver.stage_clock import StageClock


class Told:
    def __init__(self):
        self.calls = []

    def stage(self, name, total=None):
        self.calls.append((name, total))

    def advance(self, steps=1):
        self.calls.append(steps)


@pytest.fixture
def clock(monkeypatch):
    """A clock whose time is `clock.now`."""
    made = StageClock(Told())
    made.now = 0.0
    monkeypatch.setattr(stage_clock.time, "perf_counter", lambda: made.now)
    return made


def test_every_stage_lasts_until_the_next(clock):
    clock.stage("calibrate", 8)
    clock.now = 2.0
    clock.stage("search")
    clock.now = 5.0
    assert clock.seconds == {"calibrate": 2.0}
    clock.stop()
    assert clock.seconds == {"calibrate": 2.0, "search": 3.0}


def test_what_is_between_stages_belongs_to_none(clock):
    clock.stage("calibrate")
    clock.now = 1.0
    clock.stop()
    clock.now = 9.0
    clock.stop()
    clock.stage("calibrate")
    clock.now = 10.0
    clock.stop()
    assert clock.seconds == {"calibrate": 2.0}


def test_progress_is_passed_on(clock):
    clock.stage("calibrate", 8)
    clock.advance()
    clock.advance(3)
    assert clock._told.calls == [("calibrate", 8), 1, 3]
