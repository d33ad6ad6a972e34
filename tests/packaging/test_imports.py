"""Who may import whom, read from the source with `ast`: a package that nobody runs in a test is checked too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "qcompiler": CHECKOUT / "qcompiler",
    "qcompiler.passes": CHECKOUT / "passes",
    "qcompiler.runtime_ops": CHECKOUT / "runtime_ops",
    "qcompiler.models": CHECKOUT / "models",
}

STAGES = {"calibration", "relevance", "allocation", "evaluation"}
FOUNDATION = {"errors", "progress", "ir", "quant"}
# Part of the package -> parts that it may import. Parts that are not listed (the driver) may import everything.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "progress": {"errors"},
    "ir": {"errors"},
    "quant": {"errors", "ir"},
    "passes": {"errors", "ir", "quant"},
    "runtime_ops": set(),
    "calibration": FOUNDATION,
    "relevance": FOUNDATION | {"calibration"},
    "allocation": FOUNDATION | {"calibration", "relevance"},
    "evaluation": FOUNDATION | {"calibration", "runtime_ops"},
    "latency": FOUNDATION | {"evaluation", "runtime_ops"},
    "options": FOUNDATION | STAGES,
    "report": FOUNDATION | STAGES | {"latency", "options"},
    "deploy": {"errors", "ir", "runtime_ops"},
    "integrations": {"calibration", "driver", "options"},
    "verification": FOUNDATION | {"report", "runtime_ops"},
    "cli": {"errors", "progress", "driver", "options", "report", "deploy", "verification"},
    "models": {"errors", "ir"},
}
EXTRAS = {
    "torch",
    "torchvision",
    "timm",
    "sklearn",
    "safetensors",
    "onnxscript",
    "ray",
}  # installed by extras only
# Part of the package -> extras that it may import, inside functions only.
USERS_OF_EXTRAS = {"models": EXTRAS - {"ray"}, "relevance": {"ray"}}


def sources() -> list[tuple[str, Path]]:
    """Module name and file of every module of the package."""
    found = []
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found.append((".".join(part for part in parts if part != "__init__"), path))
    return found


def imports(module: str, path: Path) -> Iterator[tuple[str, bool]]:
    """Absolute names that a module imports, and whether that happens when the module itself is imported."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text("utf-8"), filename=str(path))
    lazy: set[ast.AST] = set()
    for node in ast.walk(tree):
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or typing_only:
            lazy.update(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node not in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                base = f"{anchor}.{base}".rstrip(".")
            if base == "qcompiler":
                yield from ((f"{base}.{alias.name}", node not in lazy) for alias in node.names)
            else:
                yield base, node not in lazy


def part_of(module: str) -> str:
    """`quant` for `qcompiler.quant.groups`; the empty string for the package itself."""
    return [*module.split("."), ""][1]


MODULES = dict(sources())


@pytest.mark.parametrize("module", MODULES)
def test_direction(module: str) -> None:
    """A module imports only the parts that its own part may know."""
    own = part_of(module)
    if own not in ALLOWED:
        return
    for name, _ in imports(module, MODULES[module]):
        if name.split(".")[0] == "qcompiler" and part_of(name) not in {own, ""}:
            is_attribute = name.count(".") == 1 and f"{name}" not in MODULES  # from qcompiler import __version__
            assert is_attribute or part_of(name) in ALLOWED[own], (
                f"{module} imports {name}; {own} may import {sorted(ALLOWED[own])}"
            )


@pytest.mark.parametrize("module", MODULES)
def test_core_needs_no_extra(module: str) -> None:
    """Optional packages are imported inside functions only, by the parts that may use them."""
    for name, at_import in imports(module, MODULES[module]):
        extra = name.split(".")[0]
        if extra in EXTRAS:
            assert extra in USERS_OF_EXTRAS.get(part_of(module), set()), f"{module} imports {name}"
            assert not at_import, f"{module} imports {name} when it is imported"


@pytest.mark.parametrize("module", MODULES)
def test_installed_names(module: str) -> None:
    """`passes`, `runtime_ops`, `models` and `tests` exist as folders only; as packages they have another name."""
    for name, _ in imports(module, MODULES[module]):
        assert name.split(".")[0] not in {"passes", "runtime_ops", "models", "tests"}, f"{module} imports {name}"


def test_every_part_has_a_rule() -> None:
    """A new subpackage must be put in its place, or be left free on purpose."""
    free = {"", "driver", "__main__"}
    assert {part_of(module) for module in MODULES} <= set(ALLOWED) | free
