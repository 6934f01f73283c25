"""The picture of the folders, checked: imports point down, and nothing dangerous is called."""

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import flowdetect

PACKAGE = Path(__file__).parents[1] / "flowdetect"

# From the top down. Neighbours on one line do not import each other.
PICTURE = """
cli
flowdetect
jobs distributed plotting
persistence
timeseries inference quality
estimators
flows preprocessing training calibration explanation
_utils
exceptions
"""
LEVELS = {
    part: level for level, line in enumerate(reversed(PICTURE.split("\n"))) for part in line.split() if part
}
ENTRANCE = "flowdetect"  # what `from flowdetect import ...` reaches

UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "torch.jit.load", "joblib.load", "pd.read_pickle", "np.load"}

# What a part may not import at all, and what it imports only inside functions (for a fast start).
FOREIGN_TO = {
    "preprocessing": {"torch", "nflows"},
    "calibration": {"torch", "nflows", "pandas", "sklearn"},
    "exceptions": {"torch", "nflows", "numpy", "pandas", "sklearn"},
}
LATE_IN = {
    "cli": {"torch", "nflows", "numpy", "pandas", "sklearn", "matplotlib", "rich", "flowdetect.estimators"},
    "flowdetect": {"torch", "nflows", "numpy", "pandas", "sklearn", "flowdetect.estimators"},
    "estimators": {"torch", "nflows", "flowdetect.flows", "flowdetect.training"},
    "plotting": {"matplotlib"},
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def module_id(path: Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix()


def dotted_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


# Imported while tests are collected: a library may draw from a global random stream on its first import.
IMPORTED = [importlib.import_module(dotted_name(path)) for path in MODULES if path.name != "__main__.py"]


def part_of(module: str) -> str:
    """``flowdetect.flows._build`` -> ``flows``; ``flowdetect`` -> the entrance."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else ENTRANCE


def imports(node: ast.AST) -> Iterator[str]:
    """Yield the dotted names of what is imported anywhere below a node."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: imports are absolute here"
            assert child.module is not None
            yield from _members(child.module, [alias.name for alias in child.names])


def _members(module: str, names: list[str]) -> Iterator[str]:
    if module != ENTRANCE:
        yield module
    for name in names if module == ENTRANCE else []:
        yield f"{module}.{name}" if name in LEVELS else module


def imports_when_loaded(tree: ast.Module) -> Iterator[str]:
    """Yield what is imported when the module is, not later inside a function or only for type checking."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node)


def calls(tree: ast.Module) -> Iterator[str]:
    return (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_every_part_of_the_package_is_in_the_picture() -> None:
    parts = {part_of(dotted_name(path)) for path in MODULES}
    assert parts <= LEVELS.keys()


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_imports_point_down(path: Path) -> None:
    own = part_of(dotted_name(path))
    if own == ENTRANCE:
        return
    own_modules = [name for name in imports(ast.parse(path.read_text())) if name.split(".")[0] == ENTRANCE]
    upward = [name for name in own_modules if part_of(name) != own and LEVELS[part_of(name)] >= LEVELS[own]]
    assert not upward, f"{own} may not import {upward}"


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_parts_leave_alone_what_is_foreign_to_them(path: Path) -> None:
    part, tree = part_of(dotted_name(path)), ast.parse(path.read_text())
    roots = {name.split(".")[0] for name in imports(tree)}
    assert not roots & FOREIGN_TO.get(part, set())
    loaded = set(imports_when_loaded(tree))
    assert not (loaded | {name.split(".")[0] for name in loaded}) & LATE_IN.get(part, set())


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_nothing_unpickles_evaluates_or_asserts(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not {name.split(".")[0] for name in imports(tree)} & UNSAFE_MODULES
    assert not set(calls(tree)) & UNSAFE_CALLS
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_exceptions_are_neither_bare_nor_swallowed(path: Path) -> None:
    handlers = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ExceptHandler)]
    assert not [node.lineno for node in handlers if node.type is None or isinstance(node.body[0], ast.Pass)]


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_functions_stay_below_sixty_lines(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno - docstring.count("\n") <= 60, node.name


def test_third_party_imports_are_declared_dependencies() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    core, sql = (
        {re.split(r"[^\w-]", entry)[0] for entry in entries}
        for entries in (project["dependencies"], project["optional-dependencies"]["sql"])
    )
    trees = [ast.parse(path.read_text()) for path in MODULES]
    assert third_party(name for tree in trees for name in imports(tree)) <= core | sql
    # What belongs to an extra is imported by those who use it.
    assert third_party(name for tree in trees for name in imports_when_loaded(tree)) <= core


def third_party(names: Iterable[str]) -> set[str]:
    called = {"sklearn": "scikit-learn", "imblearn": "imbalanced-learn"}
    roots = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {ENTRANCE}
    return {called.get(name, name) for name in roots}


@pytest.mark.parametrize("module", IMPORTED, ids=lambda module: module.__name__)
def test_exported_members_resolve(module: ModuleType) -> None:
    exported = list(getattr(module, "__all__", []))
    assert len(exported) == len(set(exported))
    assert not [name for name in exported if not hasattr(module, name)]


def test_public_names_are_our_own() -> None:
    for name in flowdetect.__all__:
        home = getattr(getattr(flowdetect, name), "__module__", "flowdetect")
        assert home.split(".")[0] == "flowdetect"


@pytest.mark.parametrize("folder", [path.parent for path in MODULES if path.name == "__init__.py"], ids=str)
def test_folders_export_through_all(folder: Path) -> None:
    if folder.name != "_utils":
        assert importlib.import_module(dotted_name(folder / "__init__.py")).__all__
