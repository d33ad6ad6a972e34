"""Progress bars on a terminal, none otherwise."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from qcompiler.cli.terminal import Bars, Terminal, console
from qcompiler.progress import Silent


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def terminal(stream, **more):
    return Terminal(console(io.StringIO()), console(stream), **more)


@pytest.fixture(autouse=True)
def a_plain_environment(monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_bars_on_a_terminal():
    stream = FakeTerminal()
    with terminal(stream).progress() as progress:
        assert isinstance(progress, Bars)
        progress.advance()  # before any stage
        progress.stage("calibrate", 4)
        progress.advance(3)
        progress.stage("plan")
        progress.advance()
        progress.stage("write", 1)
    assert "calibrate" in stream.getvalue()
    assert "4/4" in stream.getvalue()  # a stage that ends is full


@pytest.mark.parametrize("flags", [{}, {"quiet": True}, {"as_json": True}])
def test_silence_on_a_pipe(flags):
    stream = io.StringIO()
    with terminal(stream, **flags).progress() as progress:
        assert isinstance(progress, Silent)
        progress.stage("calibrate", 4)
        progress.advance()
    assert stream.getvalue() == ""


def test_quiet_silences_a_terminal():
    stream = FakeTerminal()
    with terminal(stream, quiet=True).progress() as progress:
        progress.stage("calibrate", 4)
    assert stream.getvalue() == ""


def test_text_is_printed_as_it_is():
    stream = io.StringIO()
    shown = replace(terminal(io.StringIO()), out=console(stream))
    name = "[red]blocks[0] :smile: " + "x" * 500
    shown.show(name)
    assert stream.getvalue() == f"{name}\n"


def test_a_terminal_keeps_its_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "44")
    assert console(FakeTerminal()).width == 44
    assert isinstance(console(io.StringIO()), Console)
    assert console(io.StringIO()).width > 1000
