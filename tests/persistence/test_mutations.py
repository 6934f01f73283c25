"""Files that are no models, or no longer: one exception, soon, and nothing executed."""

import copy
import hashlib
import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flowdetect
from flowdetect.exceptions import ModelFileError
from flowdetect.persistence import read_manifest
from flowdetect.persistence._container import pack

WINDOW = (golden.FOLDER / "v1_SlidingWindow.flow").read_bytes()
DENSITY = (golden.FOLDER / "v1_FlowDensity.flow").read_bytes()
DETECTOR = (golden.FOLDER / "v1_FlowOutlierDetector.flow").read_bytes()


def members(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        return manifest, safetensors.numpy.load(archive.read("arrays.safetensors"))


def packed(manifest: Any, arrays: bytes) -> bytes:
    """Return a file whose checksums are right, as someone would make it who means ill."""
    if isinstance(manifest, dict) and isinstance(manifest.get("members"), list) and manifest["members"]:
        entry = manifest["members"][0]
        if isinstance(entry, dict):
            entry |= {"size": len(arrays), "sha256": hashlib.sha256(arrays).hexdigest()}
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    return b"".join(pack([("manifest.json", text), ("arrays.safetensors", arrays)]))


def forged(content: bytes, change: Callable[[dict[str, Any], dict[str, np.ndarray]], None]) -> bytes:
    manifest, arrays = members(content)
    change(manifest, arrays)
    return packed(manifest, safetensors.numpy.save(arrays))


def refuse(content: bytes, path: Path, match: str | None = None) -> None:
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=match):
        flowdetect.load(path)


# --- damage --------------------------------------------------


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.flow"
    for place in range(len(WINDOW)):
        damaged = bytearray(WINDOW)
        damaged[place] ^= 1 << (place % 8)
        refuse(bytes(damaged), path)


def test_every_truncation_and_addition_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.flow"
    for n_bytes in range(len(WINDOW)):
        refuse(WINDOW[:n_bytes], path)
    for more in (b"\0", b"PK", WINDOW):
        refuse(WINDOW + more, path, "bytes, and must have")
        refuse(more + WINDOW, path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(DENSITY) - 1), junk=st.binary(min_size=1, max_size=64))
def test_overwritten_bytes_are_noticed(tmp_path: Path, place: int, junk: bytes) -> None:
    damaged = DENSITY[:place] + junk + DENSITY[place + len(junk) :]
    if damaged != DENSITY:
        refuse(damaged, tmp_path / "model.flow")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_random_bytes_are_no_model(tmp_path: Path, content: bytes) -> None:
    refuse(content, tmp_path / "model.flow")
    refuse(WINDOW[:30] + content, tmp_path / "model.flow")


# --- files of other kinds --------------------------------------------------


class Canary:
    """Leaves a mark if it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (self.mark,)


def pickles(mark: str) -> Iterator[bytes]:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.dumps(Canary(mark), protocol)
    torch_like = io.BytesIO()
    with zipfile.ZipFile(torch_like, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Canary(mark)))
        archive.writestr("manifest.json", pickle.dumps(Canary(mark)))
    yield torch_like.getvalue()
    array = io.BytesIO()
    np.save(array, np.array([Canary(mark)], dtype=object), allow_pickle=True)
    yield array.getvalue()
    yield packed(pickle.dumps(Canary(mark)), b"")
    yield packed(members(WINDOW)[0], pickle.dumps(Canary(mark)))
    yield b"\x08\x07\x12\x07pytorch" + pickle.dumps(Canary(mark))  # as ONNX files begin


def test_pickles_under_our_suffix_do_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for content in pickles(str(mark)):
        refuse(content, tmp_path / "model.flow")
        with pytest.raises(ModelFileError):
            read_manifest(tmp_path / "model.flow") if content[:2] != b"PK" else flowdetect.load(
                tmp_path / "model.flow"
            )
    assert not mark.exists()


@pytest.mark.parametrize("name", ["/etc/model.json", "../manifest.json", "manifest.jsom", "manifest.json/"])
def test_other_member_names_are_refused(name: str, tmp_path: Path) -> None:
    manifest = json.dumps(members(WINDOW)[0]).encode()
    refuse(b"".join(pack([(name, manifest), ("arrays.safetensors", b"")])), tmp_path / "model.flow")
    refuse(b"".join(pack([("manifest.json", manifest), (name, b"")])), tmp_path / "model.flow")


def test_archives_of_other_tools_are_refused(tmp_path: Path) -> None:
    parts = zipfile.ZipFile(io.BytesIO(WINDOW))
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        again = io.BytesIO()
        with zipfile.ZipFile(again, "w", compression) as archive:
            for name in parts.namelist():
                link = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                link.external_attr = 0o120777 << 16  # a symbolic link
                link.compress_type = compression
                archive.writestr(link, parts.read(name))
        refuse(again.getvalue(), tmp_path / "model.flow")


# --- forged contents --------------------------------------------------


def test_a_repacked_model_loads(tmp_path: Path) -> None:
    (tmp_path / "model.flow").write_bytes(forged(DENSITY, lambda manifest, arrays: None))
    assert type(flowdetect.load(tmp_path / "model.flow")).__name__ == "FlowDensity"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b'{"a": ' * 70 + b"1" + b"}" * 70, "nested"),
        (b"[" * 1_000_000, "nested"),
        (b'{"format": "flowdetect model", "format": 1}', "twice"),
        (b'{"format": NaN}', "no number"),
        (b'{"format": 1e999}', "no number"),
        (b'{"format": ' + b"9" * 5000 + b"}", "JSON"),
        (b'"flowdetect model"', "no JSON object"),
        (b"\xff\xfe", "JSON"),
        (b"{}", "another kind"),
        (b'{"format": "flowdetect model", "format_version": 2}', "format 2; .* Install a newer"),
        (b'{"format": "flowdetect model", "format_version": true}', "another kind"),
        (b'{"format": "flowdetect model", "format_version": 1}', "other entries"),
    ],
    ids=[
        "deep",
        "deeper",
        "twice",
        "nan",
        "huge",
        "digits",
        "text",
        "utf-8",
        "empty",
        "newer",
        "true",
        "bare",
    ],
)
def test_manifests_that_are_none(text: bytes, match: str, tmp_path: Path) -> None:
    refuse(packed(text, b""), tmp_path / "model.flow", match)


def change_weight(value: float) -> Callable[[dict[str, Any], dict[str, np.ndarray]], None]:
    def change(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        name = next(name for name in arrays if name.endswith("final_layer.bias"))
        arrays[name] = arrays[name].copy()
        arrays[name][0] = value

    return change


def setting(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, np.ndarray]], None]:
    def change(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        manifest["model"]["state"]["density_"]["settings"][name] = value

    return change


def in_manifest(*keys: Any, value: Any) -> Callable[[dict[str, Any], dict[str, np.ndarray]], None]:
    def change(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        place: Any = manifest
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def extra_array(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    arrays["more"] = np.zeros(2)


def other_split(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    name = next(name for name in arrays if name.endswith("transform_features"))
    arrays[name] = arrays[name] + 1_000_000


def single_precision(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    for name in arrays:
        if arrays[name].dtype == np.float64:
            arrays[name] = arrays[name].astype(np.float32)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (change_weight(float("nan")), "not finite"),
        (change_weight(float("inf")), "not finite"),
        (change_weight(40.0), "scores its probe rows differently"),
        (extra_array, "arrays that no part"),
        (other_split, "does not follow from the splits"),
        (single_precision, "must be .* of torch.float64; got .* of torch.float32"),
        (setting("hidden_features", 10**9), "asks for about"),
        (setting("n_layers", 10**9), "asks for about"),
        (setting("n_blocks", 10**7), "asks for about"),
        (setting("hidden_features", 7), "must be"),
        (setting("hidden_features", True), "of type"),
        (setting("n_layers", 2), "splits must have 2 entries"),
        (setting("activation", "__import__"), "activation must be one of"),
        (setting("tail_bound", -1.0), "tail_bound must be positive"),
        (setting("more", 1), "expected exactly"),
        (in_manifest("class", value="FlowOutlierDetector"), "FlowOutlierDetector"),
        (in_manifest("class", value="os.system"), "there is no class 'os.system'"),
        (in_manifest("class", value="Member"), "there is no class 'Member'"),
        (in_manifest("model", "state", "__class__", value=1), "is not a FlowDensity"),
        (in_manifest("model", "parameters", "__init__", value=1), "of this version"),
        (in_manifest("model", "state", "n_features_in_", value=8), "n_features_in_"),
        (in_manifest("model", "state", "n_features_in_", value=7.0), "not of type int"),
        (in_manifest("model", "state", "density_", "layout", "n_values", value=1), "splits|gates|columns"),
        (
            in_manifest("model", "state", "density_", value={"same as": "FlowDensity/encoder_"}),
            "not a density",
        ),
        (in_manifest("model", "state", "context_encoder_", value=None), "different columns"),
        (in_manifest("probes", value={}), "probes"),
        (in_manifest("card", value="red\x1b[31m"), "cannot be printed"),
        (in_manifest("members", value=[]), "no others"),
        (in_manifest("members", 0, "name", value="../arrays.safetensors"), "no others"),
    ],
)
def test_forged_densities_are_refused(change: Any, match: str, tmp_path: Path) -> None:
    refuse(forged(DENSITY, change), tmp_path / "model.flow", match)


def unsorted_calibration(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    arrays["FlowOutlierDetector/_calibration_scores"] = arrays["FlowOutlierDetector/_calibration_scores"][
        ::-1
    ].copy()


def narrow_points(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    name = "FlowOutlierDetector/_members/0/neighbours/points"
    arrays[name] = arrays[name][:, :-1].copy()


def few_levels(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    name = "FlowOutlierDetector/_members/0/_levels"
    arrays[name] = arrays[name][:-1].copy()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (unsorted_calibration, "calibration is not sorted"),
        (narrow_points, "another width"),
        (few_levels, "one level for each point"),
        (in_manifest("model", "state", "offset_", value={"float": "nan"}), "threshold is not finite"),
        (in_manifest("model", "state", "densities_", value=[]), "members and densities"),
    ],
)
def test_forged_detectors_are_refused(change: Any, match: str, tmp_path: Path) -> None:
    refuse(forged(DETECTOR, change), tmp_path / "model.flow", match)


@pytest.mark.parametrize("zone", ["x" * 4000, "../../etc/passwd", "Nowhere/At_all", 7])
def test_time_zones_that_are_none_are_refused(zone: Any, tmp_path: Path) -> None:
    augmenter = (golden.FOLDER / "v1_SeriesAugmenter.flow").read_bytes()
    keys = ("model", "state", "_paths", "state", "placed", 0, "state", "stamps", "zone")
    refuse(forged(augmenter, in_manifest(*keys, value=zone)), tmp_path / "model.flow")


def safetensors_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "arrays",
    [
        b"",
        struct.pack("<Q", 2**63) + b"{}",
        safetensors_of({"a": {"dtype": "F64", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}, b"\0" * 8),
        safetensors_of(
            {name: {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]} for name in "ab"}, b"\0" * 8
        ),
        safetensors_of({"a": {"dtype": "F64", "shape": [1], "data_offsets": [-8, 0]}}, b"\0" * 8),
        safetensors_of({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 8]}}, b"\0" * 8),
        safetensors_of({"a": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}, b"\0" * 8),
        safetensors_of(b'{"a": ' * 100_000),
    ],
    ids=["none", "long header", "huge", "overlap", "negative", "dtype", "bfloat16", "deep"],
)
def test_forged_arrays_are_refused(arrays: bytes, tmp_path: Path) -> None:
    refuse(packed(members(DENSITY)[0], arrays), tmp_path / "model.flow")


# --- many of them --------------------------------------------------


ODD_VALUES = [None, True, -1, 0, 3, 10**6, 2**63, 2**70, 0.5, -1e308, "", "nan", "x" * 3000, [], [[]], {}]
ODD_VALUES += [
    {"float": "nan"},
    {"same as": "FlowDensity"},
    {"array": "x"},
    {"decimal": "1e999999"},
    ["a", 1],
]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container in JSON with each of its keys."""
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield value, key
            yield from places(value[key])


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return a model with right checksums and one to three entries changed."""
    manifest, arrays = members(content)
    for _ in range(rng.randint(1, 3)):
        if arrays and rng.random() < 0.3:
            mutate_array(arrays, rng)
            continue
        everywhere = list(places({key: manifest[key] for key in ("model", "probes", "class")}))
        container, key = rng.choice(everywhere)
        mutate_entry(container, key, everywhere, rng)
    return packed(manifest, safetensors.numpy.save(arrays))


def mutate_entry(container: Any, key: Any, everywhere: list[tuple[Any, Any]], rng: random.Random) -> None:
    choice = rng.random()
    if choice < 0.15:
        del container[key]
    elif choice < 0.3:
        other, name = rng.choice(everywhere)
        if isinstance(name, str) and name in other:
            container[key] = json.loads(json.dumps(other[name]))
    elif isinstance(container[key], int | float) and choice < 0.6:
        container[key] = container[key] * rng.choice([-1, 2, 1000]) + rng.choice([0, 1])
    else:
        container[key] = copy.deepcopy(rng.choice(ODD_VALUES))


def mutate_array(arrays: dict[str, np.ndarray], rng: random.Random) -> None:
    name = rng.choice(sorted(arrays))
    array = arrays[name].copy()
    choice = rng.random()
    if choice < 0.2:
        del arrays[name]
        return
    if choice < 0.4 or not array.size:
        array = np.resize(array, rng.choice([(0,), (1,), (3, 2), (array.size + 1,)]))
    elif array.dtype.kind == "b":
        array = ~array
    else:
        odd = [0, -1, 7, 10**9] if array.dtype.kind == "i" else [0.0, -1.0, 1e300, float("nan"), float("inf")]
        array.flat[rng.randrange(array.size)] = rng.choice(odd)
    arrays[name] = array


def load_or_refuse(content: bytes, path: Path) -> bool:
    """Return whether a mutated model loads; it may, where the change does no harm. Anything else raises."""
    path.write_bytes(content)
    try:
        flowdetect.load(path)
    except ModelFileError:
        return False
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(golden.FOLDER.glob("*.flow")), ids=lambda path: path.stem)
def test_mutated_models_raise_nothing_else(path: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    content = path.read_bytes()
    loaded = sum(load_or_refuse(mutated(content, rng), tmp_path / "model.flow") for _ in range(60))
    assert loaded < 60


@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(golden.FOLDER.glob("*.flow")), ids=lambda path: path.stem)
def test_a_hundred_thousand_mutated_models_raise_nothing_else(path: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    content = path.read_bytes()
    loaded = sum(load_or_refuse(mutated(content, rng), tmp_path / "model.flow") for _ in range(17_000))
    assert loaded < 17_000
