"""`python -m qcompiler.cli`, where the script is not on the path."""

import sys

from qcompiler.cli.dispatch import main

sys.exit(main())
