"""The command line: `qcompile MODEL` compiles; `inspect`, `eval`, `bench`, `export` and `deploy` do what their names
say.

Exit codes: 0 done, 2 something that the user can fix (one line on stderr says what), 130 interrupted, 143 terminated.
"""

from qcompiler.cli.dispatch import main

__all__ = ["main"]
