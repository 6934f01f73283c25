"""The README, run: every Python block in order, and every command checked."""

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Section:
    """One section of the README: its blocks of code share one namespace."""

    title: str
    blocks: tuple[str, ...]


def python_sections(markdown: str) -> list[Section]:
    """Collect the Python blocks below each heading; a # inside a block is no heading."""
    found: list[tuple[str, list[str]]] = [("", [])]
    pattern = r"^```(?P<language>\w*)\n(?P<code>.*?)^```$|^#+ (?P<heading>[^\n]+)$"
    for match in re.finditer(pattern, markdown, flags=re.MULTILINE | re.DOTALL):
        if match["heading"]:
            found.append((match["heading"], []))
        elif match["language"] in ("python", "py"):
            found[-1][1].append(match["code"])
    return [Section(title, tuple(blocks)) for title, blocks in found if blocks]


SECTIONS = python_sections(README.read_text())


def test_python_sections_are_found_in_order() -> None:
    text = "# a\n```python\nx\n```\n```bash\n# no heading\n```\n## b\n```python\n# y\n```\n```py\nz\n```\n"
    assert python_sections(text) == [Section("a", ("x\n",)), Section("b", ("# y\n", "z\n"))]


def test_the_readme_has_python_to_run() -> None:
    assert SECTIONS


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_python_of_the_readme_runs(section: Section, tmp_path: Path, run_script: Run) -> None:
    # In a process of its own, as a reader would run it, and where it can read datasets/ but not litter.
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    script = tmp_path / "section.py"
    script.write_text("\n".join(section.blocks))
    done = run_script(script, folder=tmp_path, errors=("FutureWarning",))
    assert done.returncode == 0, done.stderr[-3000:]


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for document in (README, ROOT / "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:`|^)make ([a-z]+)", document.read_text(), flags=re.MULTILINE))
        assert named
        assert named <= targets


def test_files_named_in_the_readme_exist() -> None:
    named = re.findall(r"\b((?:examples|datasets|tests)/[\w./-]*\w)", README.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]
