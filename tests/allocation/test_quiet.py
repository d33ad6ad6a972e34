"""Native output is swallowed inside, and only there."""

import os
import subprocess
import sys

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


PROGRAM = """
import ctypes
from qcompiler.allocation.quiet import quiet_stdout
puts = ctypes.CDLL(None).puts
puts(b"before")
with quiet_stdout():
    puts(b"noise")
try:
    with quiet_stdout():
        puts(b"noise")
        raise ValueError
except ValueError:
    pass
puts(b"after")
ctypes.CDLL(None).fflush(None)
"""


def test_nothing_of_c_shows_up_later_on_a_pipe():
    """C writes to a pipe when its buffer is full, or at the end of the process."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("before\nafter\n", "")


def test_a_closed_stdout_is_no_error():
    program = "import os\nfrom qcompiler.allocation.quiet import quiet_stdout\nos.close(1)\nwith quiet_stdout(): pass\n"
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=True)
    assert done.stderr == ""
