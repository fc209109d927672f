import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pagelab.config.model_specs import ModelSpec, SyntheticSpec
from pagelab.errors import ModelError
from pagelab.models import catalog
from pagelab.models.catalog import Stamp, fetch, file_specs, model_path, read_model, read_stamp, verify, verify_model
from pagelab.models.synthetic import write_synthetic
from splitting import split_model

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PARTS = {"requirement": "m-{n}==1", "count": 3, "member": "data/*.bin"}
SHAPE = {"architecture": "llama", "layers": 1, "width": 64, "feed_forward": 64, "vocabulary": 512}


def spec_of(**source: Any) -> ModelSpec:
    return ModelSpec.model_validate({"name": "m", "source": source})


SYNTHETIC = spec_of(synthetic=SHAPE)


# Sources


@pytest.mark.parametrize(
    "source",
    [
        {"pypi": "some-model==1.0.0", "file": "m.gguf", "sha256": SHA256},
        {"pypi_parts": PARTS, "file": "m.gguf", "sha256": SHA256},
        {"synthetic": SHAPE},
        {"file": "m.gguf", "sha256": SHA256},
        {"url": "https://example.org/models/m.gguf?download=true", "sha256": SHA256},
        {"file": "m-00001-of-00002.gguf", "sha256": [SHA256, SHA256]},
        {"url": "https://example.org/m-00001-of-00002.gguf?download=true", "sha256": [SHA256, SHA256]},
    ],
)
def test_sources_survive_a_round_trip(source: dict[str, Any]) -> None:
    spec = spec_of(**source)
    document = spec.model_dump(mode="json")
    assert ModelSpec.model_validate(document) == spec
    assert document["source"].items() >= {key: value for key, value in source.items() if key != "synthetic"}.items()
    assert "source" in TypeAdapter(ModelSpec).json_schema()["properties"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "one of the keys pypi, pypi_parts, synthetic, file, url"),
        ({"sha256": SHA256}, "one of the keys pypi, pypi_parts, synthetic, file, url"),
        ({"file": "m.gguf"}, "sha256\n  Field required"),
        ({"file": "m.gguf", "sha256": "abc"}, "should match pattern"),
        ({"file": "m.gguf", "sha256": SHA256, "sha": 1}, "sha\n  Extra inputs"),
        ({"pypi": "a==1", "file": "m.gguf", "sha256": SHA256, "url": "http://a/b"}, "url\n  Extra inputs"),
        ({"synthetic": SHAPE, "file": "m.gguf"}, "file\n  Extra inputs"),
        ({"pypi": "some-model", "file": "m.gguf", "sha256": SHA256}, "should match pattern"),
        ({"pypi": "-r==1", "file": "m.gguf", "sha256": SHA256}, "should match pattern"),
        ({"pypi": "a==1", "file": "../m.gguf", "sha256": SHA256}, "should match pattern"),
        ({"pypi_parts": {**PARTS, "requirement": "m==1"}, "file": "m", "sha256": SHA256}, "should match pattern"),
        ({"pypi_parts": {**PARTS, "requirement": "{n}==1"}, "file": "m", "sha256": SHA256}, "should match pattern"),
        ({"pypi_parts": {**PARTS, "requirement": "m{n}{n}==1"}, "file": "m", "sha256": SHA256}, "should match pattern"),
        ({"pypi_parts": {**PARTS, "count": 1}, "file": "m", "sha256": SHA256}, "greater than or equal to 2"),
        ({"pypi_parts": {**PARTS, "member": "/m"}, "file": "m", "sha256": SHA256}, "should match pattern"),
        ({"pypi_parts": PARTS, "file": "m"}, "sha256\n  Field required"),
        ({"url": "file:///etc/passwd", "sha256": SHA256}, "should match pattern"),
        ({"url": "https://example.org/", "sha256": SHA256}, "should match pattern"),
        ({"url": "https://example.org/..", "sha256": SHA256}, "should match pattern"),
        ({"url": "https://example.org/a%2Fb.gguf", "sha256": SHA256}, "should match pattern"),
        ({"file": "m.gguf", "sha256": [SHA256, SHA256]}, "its first one, NAME-00001-of-00002.gguf, and not m.gguf"),
        ({"file": "m-00002-of-00002.gguf", "sha256": [SHA256, SHA256]}, "must be its first one"),
        ({"file": "m-00001-of-00002.gguf", "sha256": [SHA256] * 3}, "must be its first one"),
        ({"url": "https://a/m-00001-of-00003.gguf", "sha256": [SHA256, SHA256]}, "must be its first one"),
        ({"file": "m-00001-of-00001.gguf", "sha256": [SHA256]}, "at least 2 items"),
    ],
)
def test_bad_sources_are_refused(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec_of(**source)


def test_paths(tmp_path: Path) -> None:
    assert model_path(spec_of(file="/data/m.gguf", sha256=SHA256), tmp_path) == Path("/data/m.gguf")
    assert model_path(spec_of(file="m.gguf", sha256=SHA256), tmp_path) == tmp_path / "m.gguf"
    assert model_path(spec_of(url="http://a/x/m.gguf?b=c/d", sha256=SHA256), tmp_path) == tmp_path / "m.gguf"
    synthetic = model_path(SYNTHETIC, tmp_path).name
    assert re.fullmatch(r"llama-1x64-q4_0-[0-9a-f]{8}\.gguf", synthetic)
    assert model_path(spec_of(synthetic={**SHAPE, "seed": 1}), tmp_path).name != synthetic


# Models in several files

PIECES = [b"first", b"second", b"third"]
SUMS = [hashlib.sha256(part).hexdigest() for part in PIECES]


def write_parts(directory: Path) -> list[Path]:
    paths = [directory / f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    for path, content in zip(paths, PIECES, strict=True):
        path.write_bytes(content)
    return paths


def test_each_file_of_a_split_model_has_a_spec(tmp_path: Path) -> None:
    spec = spec_of(file="some/m-00001-of-00003.gguf", sha256=SUMS)
    assert [(one.name, model_path(one, tmp_path).name) for one in file_specs(spec)] == [
        (f"m-{number}-of-3", f"m-0000{number}-of-00003.gguf") for number in (1, 2, 3)
    ]
    assert model_path(spec, tmp_path) == tmp_path / "some" / "m-00001-of-00003.gguf"
    of_url = file_specs(spec_of(url="https://a/m-00001-of-00003.gguf/m-00001-of-00003.gguf?b=c", sha256=SUMS))
    assert [one.source.model_dump()["url"] for one in of_url] == [
        f"https://a/m-00001-of-00003.gguf/m-0000{number}-of-00003.gguf?b=c" for number in (1, 2, 3)
    ]
    assert file_specs(SYNTHETIC) == [SYNTHETIC]


def test_every_file_of_a_split_model_is_checked(tmp_path: Path) -> None:
    paths = write_parts(tmp_path)
    spec = spec_of(file=paths[0].name, sha256=SUMS)
    whole = "".join(f"{one}\n" for one in SUMS)
    assert verify_model(spec, tmp_path) == hashlib.sha256(whole.encode()).hexdigest()
    assert not fetch(spec, tmp_path)
    paths[1].write_bytes(b"another")
    with pytest.raises(ModelError, match=rf"{paths[1].name} has sha256 .* instead of {SUMS[1]}"):
        verify_model(spec, tmp_path)
    paths[1].unlink()
    with pytest.raises(ModelError, match=rf"model m-2-of-3 is not at {paths[1]}"):
        fetch(spec, tmp_path)


def test_one_checksum_is_not_enough_for_a_model_in_several_files(tmp_path: Path) -> None:
    synthetic = tmp_path / "whole.gguf"
    write_synthetic(SyntheticSpec.model_validate(SHAPE), synthetic)
    paths = split_model(synthetic, tmp_path, 2)
    with pytest.raises(ModelError, match="is one of 2 files of a model: give its first file, with a list"):
        read_model(spec_of(file=paths[0].name, sha256=SHA256), tmp_path)
    assert read_model(spec_of(file=paths[0].name, sha256=[SHA256, SHA256]), tmp_path).parts == tuple(paths)


# Checks


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(CONTENT)
    return path


def test_second_check_reads_only_the_stamp(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verify(model, SHA256)
    stamp = read_stamp(model)
    assert stamp is not None
    assert (stamp.sha256, stamp.bytes, stamp.mtime_ns) == (SHA256, len(CONTENT), model.stat().st_mtime_ns)
    monkeypatch.setattr(catalog, "_hash", lambda path: pytest.fail("was read again"))
    verify(model, SHA256)


def test_altered_file_is_noticed(model: Path) -> None:
    verify(model, SHA256)
    model.write_bytes(CONTENT[:-1])
    for _ in range(2):
        with pytest.raises(ModelError, match=f"instead of {SHA256}"):
            verify(model, SHA256)


@pytest.mark.parametrize("way", ["in place", "another file in its place", "a stamp of before there were inodes in it"])
def test_a_change_that_leaves_size_and_time_as_they_were_is_noticed(model: Path, way: str) -> None:
    verify(model, SHA256)
    time = model.stat().st_mtime_ns
    if way == "another file in its place":
        other = model.with_name("other")
        other.write_bytes(CONTENT[::-1])
        other.replace(model)
    else:
        model.write_bytes(CONTENT[::-1])
    os.utime(model, ns=(time, time))
    if way.startswith("a stamp"):
        stamp = {"sha256": SHA256, "bytes": len(CONTENT), "mtime_ns": time}
        model.with_name("m.gguf.json").write_text(json.dumps(stamp))
    with pytest.raises(ModelError, match="another file"):
        verify(model, SHA256)


def test_a_stamp_of_before_there_were_inodes_in_it_is_renewed(model: Path) -> None:
    stamp = {"sha256": SHA256, "bytes": len(CONTENT), "mtime_ns": model.stat().st_mtime_ns}
    model.with_name("m.gguf.json").write_text(json.dumps(stamp))
    verify(model, SHA256)
    assert read_stamp(model) == Stamp.of(SHA256, model.stat())


def test_a_change_that_the_file_system_does_not_know_of_is_found_by_a_thorough_check(model: Path) -> None:
    model.write_bytes(CONTENT[::-1])
    model.with_name("m.gguf.json").write_text(Stamp.of(SHA256, model.stat()).model_dump_json())
    verify(model, SHA256)
    with pytest.raises(ModelError, match="another file"):
        verify(model, SHA256, thorough=True)


@pytest.mark.parametrize("stamp", ["", "not json", '{"sha256": "00"}', '{"tokens": 3}'])
def test_foreign_stamp_is_neither_believed_nor_overwritten(model: Path, stamp: str) -> None:
    beside = model.with_name("m.gguf.json")
    beside.write_text(stamp)
    verify(model, SHA256)
    with pytest.raises(ModelError):
        verify(model, "0" * 64)
    assert beside.read_text() == stamp


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"m\.gguf cannot be read \(No such file"):
        verify(tmp_path / "m.gguf", SHA256)
    with pytest.raises(ModelError, match="pagelab model fetch"):
        verify_model(SYNTHETIC, tmp_path)


def test_file_source_is_checked_where_it_is(model: Path, tmp_path: Path) -> None:
    spec = spec_of(file=str(model), sha256=SHA256)
    assert not fetch(spec, tmp_path / "elsewhere")
    assert verify_model(spec, tmp_path / "elsewhere") == SHA256
    with pytest.raises(ModelError):
        fetch(spec_of(file=str(model), sha256="0" * 64), tmp_path)


# Synthetic


def test_synthetic_is_made_once(tmp_path: Path) -> None:
    assert fetch(SYNTHETIC, tmp_path)
    assert not fetch(SYNTHETIC, tmp_path)
    path = model_path(SYNTHETIC, tmp_path)
    assert verify_model(SYNTHETIC, tmp_path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("damage", ["truncate", "alter", "lose the stamp", "lose the file"])
def test_damaged_synthetic_is_made_anew(tmp_path: Path, damage: str) -> None:
    fetch(SYNTHETIC, tmp_path)
    path = model_path(SYNTHETIC, tmp_path)
    whole = path.read_bytes()
    if damage == "truncate":
        os.truncate(path, 1000)
    elif damage == "alter":
        path.write_bytes(bytes(100) + whole[100:])
    else:
        (path if damage == "lose the file" else path.with_name(f"{path.name}.json")).unlink()
    assert fetch(SYNTHETIC, tmp_path)
    assert path.read_bytes() == whole
    assert not fetch(SYNTHETIC, tmp_path, thorough=True)


def test_touched_file_is_read_again_and_kept(tmp_path: Path) -> None:
    fetch(SYNTHETIC, tmp_path)
    os.utime(model_path(SYNTHETIC, tmp_path))
    assert not fetch(SYNTHETIC, tmp_path)


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        fetch(SYNTHETIC, tmp_path / "file")


# A web server that breaks off


class Handler(BaseHTTPRequestHandler):
    content = CONTENT
    names = ("/m.gguf", "/m-00001-of-00002.gguf", "/m-00002-of-00002.gguf")
    break_after: int | None = None
    ranges: list[str | None]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        if not self.path.endswith(self.names):
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        end = len(self.content) if self.break_after is None else start + self.break_after
        self.wfile.write(self.content[start:end])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Handler.break_after, Handler.ranges, Handler.content = None, [], CONTENT
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as instance:
        threading.Thread(target=instance.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{instance.server_port}/m.gguf"
        instance.shutdown()


def test_download(server: str, tmp_path: Path) -> None:
    spec = spec_of(url=server, sha256=SHA256)
    assert fetch(spec, tmp_path)
    assert (tmp_path / "m.gguf").read_bytes() == CONTENT
    assert not fetch(spec, tmp_path)
    assert Handler.ranges == [None]


def test_download_of_a_model_in_several_files(server: str, tmp_path: Path) -> None:
    spec = spec_of(url=server.replace("m.gguf", "m-00001-of-00002.gguf"), sha256=[SHA256, SHA256])
    assert fetch(spec, tmp_path)
    assert not fetch(spec, tmp_path)
    assert [(tmp_path / f"m-0000{number}-of-00002.gguf").read_bytes() == CONTENT for number in (1, 2)] == [True, True]
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    assert fetch(spec, tmp_path)


def test_broken_download_goes_on_where_it_stopped(server: str, tmp_path: Path) -> None:
    Handler.break_after = 100_000
    assert fetch(spec_of(url=server, sha256=SHA256), tmp_path)
    assert Handler.ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert (tmp_path / "m.gguf").read_bytes() == CONTENT


def test_download_of_an_earlier_process_is_used(server: str, tmp_path: Path) -> None:
    (tmp_path / ".m.gguf.part").write_bytes(CONTENT[:250_000])
    assert fetch(spec_of(url=server, sha256=SHA256), tmp_path)
    assert Handler.ranges == ["bytes=250000-"]


@pytest.mark.parametrize("rubbish", [b"x" * 1000, CONTENT + b"x"])
def test_beginning_of_another_file_is_thrown_away(server: str, tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / ".m.gguf.part").write_bytes(rubbish)
    assert fetch(spec_of(url=server, sha256=SHA256), tmp_path)
    assert Handler.ranges == [f"bytes={len(rubbish)}-", None]


def test_wrong_content_never_gets_the_name(server: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"has sha256 {SHA256} instead of {'0' * 64}"):
        fetch(spec_of(url=server, sha256="0" * 64), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_server_that_refuses(server: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="404"):
        fetch(spec_of(url=f"{server}x.gguf", sha256=SHA256), tmp_path)
    assert len(Handler.ranges) == 1


def test_server_that_keeps_breaking_off(server: str, tmp_path: Path) -> None:
    Handler.break_after = 1000
    with pytest.raises(ModelError, match="goes on where it stopped"):
        fetch(spec_of(url=server, sha256=SHA256), tmp_path)
    assert (tmp_path / ".m.gguf.part").stat().st_size == 5000
