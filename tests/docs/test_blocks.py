"""Every code block of the README and the documentation is run, or says why it is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .blocks import CHECKOUT, ELSEWHERE, RUN, SHOWN, blocks, blocks_of, pages

MODEL = ("digits_vit.onnx", "digits_vit.calib.npz", "digits_vit.eval.npz")
# What a page takes for granted: the README compiles in the line that also installs.
PREPARED = {"README.md": ("qcompile models/digits_vit.onnx --bop-budget 0.25 --effort low\n",)}
COMMANDS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


@pytest.mark.parametrize("page", pages())
def test_every_block_is_run_or_says_why_not(page):
    for block in blocks_of(page):
        where = f"{page}:{block.line}"
        assert block.language in RUN + SHOWN, f"{where}: the language {block.language!r} is not known to this test"
        if block.language == "console":
            assert block.title.startswith(("not run", "run by")), f"{where}: the title must say why it is not run"


def test_pages_that_are_run_elsewhere_say_why():
    assert all(reason for reason in ELSEWHERE.values())


@dataclass
class Shell:
    """A folder with the shipped model, in which the same block is run once however many pages show it."""

    folder: Path
    done: set[str] = field(default_factory=set)

    def run(self, language, text, where):
        if text in self.done:
            return
        environment = {**os.environ, "QCOMPILER_CACHE": str(self.folder / "cache")}
        # `qcompile` and `python` are those of this interpreter's environment.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        environment.pop("PYTHONSAFEPATH", None)  # readers of the documentation do not set it
        words = [*COMMANDS[language], text]
        made = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert made.returncode == 0, f"{where} ended with {made.returncode}\n{made.stdout[-1000:]}{made.stderr[-2000:]}"
        self.done.add(text)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    place = tmp_path_factory.mktemp("documentation")
    (place / "models").mkdir()
    for name in MODEL:
        shutil.copy(CHECKOUT / "models" / name, place / "models" / name)
    return Shell(place)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in pages() if any(b.language in RUN for b in blocks_of(page))])
def test_run(page, shell):
    """All blocks of a page, one after the other."""
    for text in PREPARED.get(page, ()):
        shell.run("bash", text, page)
    for block in blocks_of(page):
        if block.language in RUN:
            shell.run(block.language, block.text, f"{page}:{block.line}")


def test_cpp_is_that_of_the_example():
    example = (CHECKOUT / "examples" / "cpp" / "classify.cc").read_text("utf-8")
    shown = [
        line.strip()
        for block in blocks_of("docs/cpp.md")
        if block.language == "cpp"
        for line in block.text.splitlines()
    ]
    assert shown
    assert all(line in example for line in shown)


def test_blocks_are_found():
    text = 'a\n```bash\none\n\ntwo\n```\n  ```console title="not run: x"\n  three\n  ```\n```\nfour\n```\n'
    found = blocks("p", text)
    assert [(item.line, item.language, item.title) for item in found] == [
        (2, "bash", ""),
        (7, "console", "not run: x"),
        (10, "", ""),
    ]
    assert [item.text for item in found] == ["one\n\ntwo\n", "  three\n", "four\n"]
    with pytest.raises(ValueError, match="p:1"):
        blocks("p", "```bash\n")
