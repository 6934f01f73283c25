"""Fuzz what reads files of strangers, guided by coverage: model files, and csv.

    pip install atheris
    python tests/fuzzing/files_from_strangers.py {container,manifest,csv} [-max_total_time=600] [FOLDER]

"container" takes any bytes for a model file; "manifest" packs them, with right checksums, as the manifest
beside the arrays of a small model; "csv" reads them as rows. Only ModelFileError, or InputError, may come
out; anything else, a crash, more than 10 seconds or 2 GB ends the run with the bytes that did it. FOLDER
keeps interesting bytes from run to run.
"""

import contextlib
import json
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["flowdetect.persistence", "flowdetect.jobs"], enable_loader_override=False
):
    import flowdetect
    from flowdetect.exceptions import ModelFileError
    from flowdetect.jobs import InputError, SchemaError, open_sources
    from flowdetect.persistence._container import pack

GOLDEN = Path(__file__).parents[1] / "persistence" / "golden"
SMALL = GOLDEN / "v1_SlidingWindow.flow"
PATH = Path(tempfile.mkdtemp()) / "file"


def read_container(content: bytes) -> None:
    """Load any bytes as a model."""
    PATH.write_bytes(content)
    with contextlib.suppress(ModelFileError):
        flowdetect.load(PATH)


def read_manifest(content: bytes) -> None:
    """Load a model with any manifest."""
    with zipfile.ZipFile(SMALL) as archive:
        arrays = archive.read("arrays.safetensors")
    read_container(b"".join(pack([("manifest.json", content), ("arrays.safetensors", arrays)])))


def read_csv(content: bytes) -> None:
    """Read any bytes as csv."""
    try:
        for partition in open_sources([_written(content)], format="csv"):
            numbers = []
            for rows in partition.batches(7):
                numbers += [*rows.numbers.tolist(), *(each.row for each in rows.rejected)]
            assert sorted(numbers) == list(range(1, len(numbers) + 1)), "rows are lost or counted twice"
    except (InputError, SchemaError):
        pass


def _written(content: bytes) -> str:
    PATH.write_bytes(content)
    return str(PATH)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "container": read_container,
    "manifest": read_manifest,
    "csv": read_csv,
}


def seeds(name: str, folder: Path) -> None:
    """Write what the fuzzer begins with."""
    with zipfile.ZipFile(SMALL) as archive:
        manifest = archive.read("manifest.json")
    examples = {
        "container": [path.read_bytes() for path in GOLDEN.glob("*.flow")],
        "manifest": [manifest, json.dumps(json.loads(manifest)).encode()],
        "csv": [b"a,b\n1,2\n3,4\n", b'a,b\n"x\ny",2\n1\n', "ä,b\né,\xff\n".encode("latin-1")],
    }
    for number, content in enumerate(examples[name]):
        (folder / f"seed-{number}").write_bytes(content)


def main() -> None:
    """Fuzz until the time is over or something is found."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(__doc__)
    options = [argument for argument in sys.argv[2:] if argument.startswith("-")]
    folders = [argument for argument in sys.argv[2:] if not argument.startswith("-")]
    folder = Path(folders[0] if folders else tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    seeds(name, folder)
    warnings.simplefilter("ignore")
    limits = ["-timeout=10", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *limits, *options, str(folder)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
