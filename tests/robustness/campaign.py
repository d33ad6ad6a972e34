"""A long campaign: ``python -m tests.robustness.campaign [KIND ...] [--count N] [--first SEED] [--messages]``.

Prints, per family of attempts, how many were tried, refused with an error, ran, and failed; failures with their seeds.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence

from .child import KINDS
from .children import REFUSED, Attempt, attempts, counts


def main(words: Sequence[str] | None = None) -> int:
    """Returns 1 if any attempt failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.campaign", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all by default")
    parser.add_argument("--count", type=int, default=1000, help="attempts per kind")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--messages", action="store_true", help="print the different error messages too")
    options = parser.parse_args(words)
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        parser.error(f"unknown kind {', '.join(sorted(unknown))}")
    everything: list[Attempt] = []
    for kind in options.kinds or KINDS:
        found: list[Attempt] = []
        for begin in range(0, options.count, 200):
            seeds = range(options.first + begin, options.first + min(begin + 200, options.count))
            made = attempts(kind, seeds)
            found += made
            for attempt in made:
                if attempt.failed:
                    print(attempt, flush=True)
        print(f"{kind}: {_text(found)}", flush=True)
        if options.messages:
            _print_messages(found)
        everything += found
    print(f"all: {_text(everything)}")
    return int(any(attempt.failed for attempt in everything))


def _text(found: Sequence[Attempt]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts(found).items())


def _print_messages(found: Sequence[Attempt]) -> None:
    """Messages by frequency; numbers and names in them are left out."""
    refused = [attempt.detail for attempt in found if attempt.outcome == REFUSED]
    kinds = Counter(re.sub(r"'[^']*'|/\S+|\d[\d.e+-]*|\[[^\]]*\]", "_", text)[:160] for text in refused)
    for text, number in kinds.most_common():
        print(f"  {number:6} {text!r}")


if __name__ == "__main__":
    sys.exit(main())
