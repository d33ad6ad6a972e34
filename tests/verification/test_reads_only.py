"""Files are data: no code of the package unpickles, evaluates or imports what a file says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDERS = ("qcompiler", "passes", "runtime_ops", "models")
SOURCES = sorted(path for folder in FOLDERS for path in (CHECKOUT / folder).rglob("*.py"))

FORBIDDEN = {"eval", "exec", "compile", "__import__"}
READERS = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
IMPORTS = {
    "qcompiler/calibration/user_reader.py": "the documented exception: `--calib module:callable`",
    "models/extras.py": "names of optional packages, written in the code",
}


def findings(source: str, name: str) -> list[str]:
    """Calls that could run what a file says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"imports {module}" for module in modules if module.split(".")[0] in READERS]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {item.arg: ast.unparse(item.value) for item in node.keywords}
        if called in FORBIDDEN:
            found.append(f"calls {called}")
        elif called == "importlib.import_module" and name not in IMPORTS:
            found.append("imports by name")
        elif called == "torch.load" and given.get("weights_only") != "True":
            found.append("torch.load without weights_only")
        elif given.get("allow_pickle", "False") != "False":
            found.append(f"{called} with allow_pickle")
    return found


def test_nothing_of_a_file_is_run():
    names = {path: path.relative_to(CHECKOUT).as_posix() for path in SOURCES}
    found = {name: problems for path, name in names.items() if (problems := findings(path.read_text("utf-8"), name))}
    assert len(names) > 100
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "import pickle",
        "from joblib import load",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "importlib.import_module(name)",
    ],
)
def test_the_rule_finds(source):
    assert len(findings(source, "other.py")) == 1


@pytest.mark.parametrize("path", IMPORTS)
def test_an_exception_is_still_there(path):
    """Else its entry above would hide something new."""
    assert set(findings((CHECKOUT / path).read_text("utf-8"), "other.py")) == {"imports by name"}
