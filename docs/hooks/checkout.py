"""What pages show of the checkout: sections of the README, and files that they link to.

`<!-- README: Title -->` stands for that section. A link to a file outside of `docs/` leads to a copy in the site, so
that the same link works where the page is read as a file.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_SECTION = re.compile(r"<!-- README: (.+?) -->")
_LINK = re.compile(r"\]\(\.\./([^)#]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Copy what pages link to into the site."""
    root = Path(config.config_file_path).parent
    linked = {
        name
        for file in files.documentation_pages()
        if (path := file.abs_src_path) is not None
        for name in _LINK.findall(Path(path).read_text("utf-8"))
    }
    for name in sorted(linked):
        if not (root / name).is_file():
            raise PluginError(f"a page links to ../{name}, which is no file of the checkout")
        files.append(File.generated(config, _place(name), content=(root / name).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Fill in sections and turn links."""
    readme = (Path(config.config_file_path).parent / "README.md").read_text("utf-8")
    filled = _SECTION.sub(lambda found: section(readme, found.group(1)), markdown)
    up = "../" * page.file.src_uri.count("/")
    return _LINK.sub(lambda found: f"]({up}{_place(found.group(1))})", filled)


def section(readme: str, title: str) -> str:
    """The text of a section, without its title.

    Raises:
        PluginError: There is no such section.
    """
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    if found is None:
        raise PluginError(f"the README has no section '{title}'")
    return found.group(1).strip()


def _place(name: str) -> str:
    """Sources are shown as text: browsers would offer to save them."""
    return f"checkout/{name}.txt"
