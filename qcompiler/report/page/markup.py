"""Elements of HTML and SVG; whatever is not an element is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = {"meta", "link", "wbr"}


class Markup(str):
    """Finished markup, which is not escaped again."""


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """One element.

    Args:
        name: Name of the element.
        children: Elements, texts, or iterables of them; None is left out.
        attributes: Underscores stand for hyphens; one at the end is dropped, it only keeps a name from being a keyword
            of Python (``class_``). None and False leave an attribute out, True gives an empty one, floats have
            two decimals.
    """
    opening = "".join([f"<{name}", *(_attribute(key, value) for key, value in attributes.items()), ">"])
    return Markup(opening if name in _VOID else f"{opening}{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Several elements and texts, one behind the other."""
    return Markup("".join(map(_content, parts)))


def _content(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, Iterable) and not isinstance(child, str):
        return join(child)
    return escape(str(child))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    if value is True:
        return f' {key}=""'
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {key}="{escape(text)}"'
