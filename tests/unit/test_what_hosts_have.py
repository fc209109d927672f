"""What the modules model_info and checksum_info find on a host, and how hosts are compared."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from collection import checksum_info, checksums, model_info
from pagelab.models.catalog import Stamp

BASIS = ["configuration", "runner"]


def model(name: str, **changes: str) -> dict[str, Any]:
    return {"name": name, "file": f"{name}.gguf", "sha256": hashlib.sha256(name.encode()).hexdigest(), **changes}


def put(directory: Path, wanted: dict[str, Any]) -> Path:
    """A model with its stamp, as the runner leaves it."""
    path = directory / wanted["file"]
    path.write_text(wanted["name"])
    stamp = Stamp.of(wanted["sha256"], path.stat())
    path.with_name(f"{path.name}.json").write_text(stamp.model_dump_json())
    return path


def test_models_that_are_whole_need_nothing(tmp_path: Path) -> None:
    both = [model("a"), model("b")]
    for each in both:
        put(tmp_path, each)
    assert model_info.info(tmp_path, both, both[:1]) == {"settled": True, "known": both, "missing": []}


@pytest.mark.parametrize("harm", ["gone", "longer", "other content", "touched", "another", "no stamp", "half a stamp"])
def test_a_model_that_is_not_what_its_stamp_says_is_sent_again(tmp_path: Path, harm: str) -> None:
    wanted = model("a")
    path = put(tmp_path, wanted)
    stamp = path.with_name("a.gguf.json")
    if harm == "gone":
        path.unlink()
    elif harm in ("longer", "other content"):
        path.write_text(harm if harm == "longer" else "b")
        os.utime(path, ns=(0, json.loads(stamp.read_text())["mtime_ns"]))
    elif harm == "touched":
        os.utime(path, (1, 1))
    elif harm == "another":
        wanted = wanted | {"sha256": "0" * 64}
    elif harm == "no stamp":
        stamp.unlink()
    else:
        stamp.write_text('{"bytes": 1')
    assert model_info.info(tmp_path, [wanted], [wanted]) == {"settled": False, "known": [wanted], "missing": [wanted]}


def test_a_model_named_by_its_whole_path_is_looked_at_each_time_and_never_sent(tmp_path: Path) -> None:
    own = model("a", file=str(tmp_path / "a.gguf"))
    put(tmp_path, own)
    assert model_info.info(tmp_path, [own], [own]) == {"settled": False, "known": [own], "missing": []}


def test_only_what_was_checked_for_this_configuration_is_known(tmp_path: Path) -> None:
    record = tmp_path / "models.fact"
    assert model_info.recorded(record, BASIS) == []
    record.write_text(json.dumps({"basis": BASIS, "models": [model("a")]}))
    assert model_info.recorded(record, BASIS) == [model("a")]
    assert model_info.recorded(record, ["another", "runner"]) == []
    assert not model_info.info(tmp_path, [], [])["settled"]


def test_binaries_are_compared_with_what_was_compiled(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("llama-cli", "libggml.so"):
        (tmp_path / "bin" / name).write_text(name)
    whole = checksum_info.sums_of(tmp_path)
    assert whole == {f"bin/{name}": hashlib.sha256(name.encode()).hexdigest() for name in ("llama-cli", "libggml.so")}
    (tmp_path / "build.json").write_text(json.dumps({"files": whole}))
    assert checksum_info.damaged(whole, checksum_info.compiled(tmp_path)) == []

    (tmp_path / "bin" / "llama-cli").write_text("changed")
    (tmp_path / "bin" / "new").write_text("new")
    (tmp_path / "bin" / "libggml.so").unlink()
    assert checksum_info.damaged(checksum_info.sums_of(tmp_path), whole) == [
        "bin/libggml.so",
        "bin/llama-cli",
        "bin/new",
    ]


def test_what_hosts_run_is_shown_and_compared() -> None:
    one, other = "1" * 64, "2" * 64
    hosts = {"lab1": {"llama.cpp": one, "image": one}, "localhost": {"llama.cpp": other, "image": one, "gemma": other}}
    assert checksums.checksum_table(hosts) == [
        "host       llama.cpp     image         gemma",
        "lab1       111111111111  111111111111  missing",
        "localhost  222222222222  111111111111  222222222222",
    ]
    assert checksums.differing(hosts) == ["llama.cpp", "gemma"]
    assert checksums.differing(hosts, besides=["llama.cpp"]) == ["gemma"]
    assert checksums.differing({}) == []
    assert checksums.checksum_table({}) == ["host"]


def test_an_image_is_its_layers_in_their_order() -> None:
    assert checksum_info.together(["sha256:aa", "sha256:bb"]) == hashlib.sha256(b"sha256:aa sha256:bb").hexdigest()
    assert checksum_info.together(["sha256:bb", "sha256:aa"]) != checksum_info.together(["sha256:aa", "sha256:bb"])
