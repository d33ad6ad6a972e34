"""Text files from the templates beside this module."""

from __future__ import annotations

from pathlib import Path

import jinja2
from google.protobuf.text_encoding import CEscape


def _quoted(text: str) -> str:
    """A string literal of protobuf's text format."""
    escaped: str = CEscape(text, as_utf8=True)
    return f'"{escaped}"'


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # none of them is HTML
)
_ENVIRONMENT.filters["quoted"] = _quoted


def render(template: str, **values: object) -> str:
    """The text of a template; a value that it names and that is not given is an error."""
    return _ENVIRONMENT.get_template(f"{template}.j2").render(**values)
