from collections.abc import Callable

import pytest

# What fits, reads tables or draws; and what typer itself loads only to convert values.
HEAVY = {"torch", "nflows", "sklearn", "pandas", "scipy", "numba", "matplotlib", "pyarrow", "numpy"}
CONVERTER = "pydantic"


@pytest.mark.parametrize(
    "arguments",
    [
        *("--help", "-h", "detect --help", "detect -h", "augment --help", "--version"),
        *("score --help", "fit --help", "drift --help", "inspect --help", "verify --help"),
    ],
)
def test_help_and_version_import_nothing_heavy(imported_by: Callable[..., set[str]], arguments: str) -> None:
    imported = imported_by("-m", "flowdetect.cli", *arguments.split())
    assert {"typer", "flowdetect.cli._detect", "flowdetect.cli._augment"} <= imported
    assert not imported & {*HEAVY, CONVERTER}
