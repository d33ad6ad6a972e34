"""Native output is swallowed inside, and only there."""

import os

from qcompiler.allocation.quiet import quiet_stdout


def test_only_what_is_written_inside_disappears(capfd):
    os.write(1, b"before ")
    with quiet_stdout():
        os.write(1, b"inside ")
    os.write(1, b"after")
    assert capfd.readouterr().out == "before after"


def test_the_output_comes_back_after_an_error(capfd):
    try:
        with quiet_stdout():
            raise ValueError("from the solver")
    except ValueError:
        os.write(1, b"still there")
    assert capfd.readouterr().out == "still there"


def test_python_output_keeps_its_order(capfd):
    print("first")
    with quiet_stdout():
        os.write(1, b"inside")
    print("second")
    assert capfd.readouterr().out == "first\nsecond\n"
