"""Fenced code blocks of the README and of the documentation's pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
RUN = ("bash", "python")
SHOWN = ("text", "cpp", "console")

# Pages of which no block is run here, and what runs their commands instead.
ELSEWHERE = {
    "docs/serving.md": "needs servers: tests/deploy starts them",
    "docs/cuda.md": "needs a GPU: tests/runtime_ops runs there where one is",
}

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>.*)$")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: File relative to the checkout.
        line: Line of its fence.
        language: First word of the info string.
        title: What the info string calls it, or the empty string.
        text: Its lines.
    """

    page: str
    line: int
    language: str
    title: str
    text: str


def pages() -> list[str]:
    """The README and the documentation's pages, relative to the checkout."""
    found = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
    names = [path.relative_to(CHECKOUT).as_posix() for path in found]
    return [name for name in names if name not in ELSEWHERE]


def blocks(page: str, text: str) -> list[Block]:
    """The blocks of a page in their order; an open fence is an error."""
    found: list[Block] = []
    inside: tuple[int, str, list[str]] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if inside is None:
            if fence is not None:
                inside = (number, fence["info"].strip(), [])
        elif fence is not None and not fence["info"]:
            begin, info, lines = inside
            title = re.search(r'title="([^"]*)"', info)
            language = info.split()[0] if info else ""
            found.append(Block(page, begin, language, title[1] if title else "", "\n".join(lines) + "\n"))
            inside = None
        else:
            inside[2].append(line)
    if inside is not None:
        raise ValueError(f"{page}:{inside[0]}: the fence is never closed")
    return found


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page of the checkout."""
    return blocks(page, (CHECKOUT / page).read_text("utf-8"))
