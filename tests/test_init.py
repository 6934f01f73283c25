import ast
import importlib
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import flowdetect

HEAVY = {"torch", "nflows", "sklearn", "pandas", "scipy", "numba", "matplotlib", "pyarrow", "numpy", "rich"}
ImportedBy = Callable[..., set[str]]


def test_importing_the_package_leaves_torch_for_the_first_fit(imported_by: ImportedBy) -> None:
    imported = imported_by("-c", "import flowdetect; vars(flowdetect)['FlowDensity']; dir(flowdetect)")
    assert "sklearn" in imported
    assert not imported & {"torch", "nflows", "numba", "matplotlib"}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_command_imports_nothing_heavy_for_its_help(imported_by: ImportedBy, option: str) -> None:
    imported = imported_by("-m", "flowdetect.cli", option)
    assert "flowdetect" in imported
    assert not imported & (HEAVY - {"rich"})


def test_the_installed_script_imports_nothing_heavy_for_its_help(
    imported_by: ImportedBy, tmp_path: Path
) -> None:
    script = tmp_path / "flowdetect"
    script.write_text("from flowdetect.cli import app\napp(['--help'])\n")
    assert not imported_by(str(script)) & (HEAVY - {"rich"})


def test_estimators_are_made_and_copied_without_torch(imported_by: ImportedBy) -> None:
    code = "import sklearn, flowdetect as f; [sklearn.clone(getattr(f, name)()) for name in f._ESTIMATORS]"
    imported = imported_by("-c", code)
    assert "sklearn" in imported
    assert not imported & {"torch", "nflows", "numba", "matplotlib"}


@pytest.mark.parametrize("name", flowdetect.__all__)
def test_every_public_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(flowdetect, name) is getattr(flowdetect, name)
    assert name in dir(flowdetect)


def test_names_are_those_of_the_folder_they_come_from() -> None:
    for name, home in flowdetect._HOMES.items():
        module = importlib.import_module(f"flowdetect.{home}")
        assert name in module.__all__
        assert getattr(flowdetect, name) is getattr(module, name)


def test_type_checkers_see_the_same_names() -> None:
    """What is imported for type checkers is what is imported at first use."""
    tree = ast.parse(Path(flowdetect.__file__).read_text())
    seen = {
        alias.name: node.module
        for branch in tree.body
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"flowdetect.{home}" for name, home in flowdetect._HOMES.items()}
    assert {*seen, "__version__"} == set(flowdetect.__all__)


@pytest.mark.parametrize("name", flowdetect._SUBMODULES)
def test_folders_are_attributes_of_the_package(name: str) -> None:
    module = importlib.import_module(f"flowdetect.{name}")
    assert flowdetect.__getattr__(name) is module  # else Python sets the attribute with the first import
    assert name in dir(flowdetect)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'flowdetect' has no attribute 'FlowDensty'"):
        flowdetect.FlowDensty  # noqa: B018 - reading it is the test
    with pytest.raises(ImportError, match="cannot import name 'FlowDensty'"):
        from flowdetect import FlowDensty  # noqa: F401
    assert not hasattr(flowdetect, "__wrapped__")


def test_estimators_are_pickled_by_the_module_that_defines_them() -> None:
    for name in flowdetect._ESTIMATORS:
        estimator = getattr(flowdetect, name)(max_steps=7)
        assert re.fullmatch(r"flowdetect\.estimators\._\w+", type(estimator).__module__)
        copy = pickle.loads(pickle.dumps(estimator))
        assert type(copy) is getattr(flowdetect, name)
        assert copy.get_params() == estimator.get_params()
