"""Downloads from a real server that does what servers and networks do: each error is retried, resumed, or named."""

import email.utils
import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pagelab.config.model_specs import ModelSpec
from pagelab.errors import ModelError
from pagelab.models.catalog import fetch
from pagelab.models.download import download

CONTENT = os.urandom(300_000)
OTHER = os.urandom(280_000)
SHA256, OTHER_SHA256 = (hashlib.sha256(content).hexdigest() for content in (CONTENT, OTHER))

Step = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Does one step for each request, in order, and serves the whole file when there are no more."""

    protocol_version = "HTTP/1.1"
    steps: list[Step]
    asked: list[tuple[str | None, str | None]]
    content: bytes
    tag: str | None
    released: threading.Event

    def do_GET(self) -> None:
        self.close_connection = True
        self.asked.append((self.headers.get("Range"), self.headers.get("If-Range")))
        (self.steps.pop(0) if self.steps else Handler.serve)(self)

    def serve(self, least: int = 0, most: int | None = None, ranges: bool = True) -> None:
        """Answer as a server should; `most` bytes of it only."""
        wanted, condition = self.asked[-1]
        if not ranges or (condition is not None and condition != self.tag):
            wanted = None
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.tag:
            self.send_header("ETag", self.tag)
        self.end_headers()
        self.wfile.write(self.content[start : None if most is None else start + most])

    def refuse(self, status: int, wait: str | None = None) -> None:
        self.send_response(status)
        if wait is not None:
            self.send_header("Retry-After", wait)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


def cut(handler: Handler) -> None:
    handler.serve(most=100_000)


def reset(handler: Handler) -> None:
    handler.serve(most=100_000)
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def stall(handler: Handler) -> None:
    handler.serve(most=100_000)
    handler.wfile.flush()
    handler.released.wait()


def no_answer(handler: Handler) -> None:
    handler.released.wait()


def cut_chunks(handler: Handler) -> None:
    """The beginning of a file whose length is not told, and no end of it."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n" % 100_000 + CONTENT[:100_000] + b"\r\n1000\r\n" + CONTENT[100_000:100_003])


def without_length(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(CONTENT[:100_000])


def no_http(handler: Handler) -> None:
    handler.wfile.write(b"this is no HTTP\r\n\r\n")


def status(code: int, wait: str | None = None) -> Step:
    return lambda handler: handler.refuse(code, wait)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited, in seconds; no time goes by."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Handler.steps, Handler.asked, Handler.content, Handler.tag = [], [], CONTENT, '"one"'
    Handler.released = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as instance:
        instance.daemon_threads = True
        threading.Thread(target=instance.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{instance.server_port}/m.gguf"
        Handler.released.set()
        instance.shutdown()


def spec_of(url: str, sha256: str = SHA256) -> ModelSpec:
    return ModelSpec.model_validate({"name": "m", "source": {"url": url, "sha256": sha256}})


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("step", [cut, reset, stall], ids=["cut", "reset", "stall"])
def test_a_transfer_that_breaks_goes_on_where_it_stopped(server: str, tmp_path: Path, step: Step) -> None:
    Handler.steps = [step, step]
    part = tmp_path / "part"
    assert download(server, part, timeout_seconds=0.3)
    assert part.read_bytes() == CONTENT
    (first, condition), *more = Handler.asked
    assert (first, condition) == (None, None)
    assert len(more) == 2
    assert all(wanted and wanted.startswith("bytes=") and tag == '"one"' for wanted, tag in more)
    assert files(tmp_path) == ["part"]


@pytest.mark.parametrize("step", [no_answer, cut_chunks, no_http, *map(status, (408, 425, 429, 500, 502, 503, 504))])
def test_an_error_that_may_pass_is_tried_again(server: str, tmp_path: Path, step: Step) -> None:
    Handler.steps = [step, step]
    part = tmp_path / "part"
    download(server, part, timeout_seconds=0.3)
    assert part.read_bytes() == CONTENT
    assert len(Handler.asked) == 3


@pytest.mark.parametrize("code", [429, 503])
def test_a_server_says_how_long_to_wait(server: str, tmp_path: Path, waits: list[float], code: int) -> None:
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    Handler.steps = [status(code, "17"), status(code, in_a_minute), status(code, past), status(code, "soon")]
    assert fetch(spec_of(server), tmp_path)
    seconds, until, none, unknown = waits
    assert (seconds, none) == (17, 0)
    assert 50 < until <= 60
    assert unknown in (1, 2, 4, 8), "as if it had said nothing"


@pytest.mark.parametrize("wait", ["86400", "Fri, 31 Dec 2999 23:59:59 GMT", "9" * 400])
def test_a_wait_of_hours_is_left_to_the_user(server: str, tmp_path: Path, waits: list[float], wait: str) -> None:
    Handler.steps = [status(429, wait)]
    with pytest.raises(ModelError, match=r"429 Too Many Requests.*asks to wait .*goes on where it stopped") as caught:
        fetch(spec_of(server), tmp_path)
    assert (waits, len(Handler.asked)) == ([], 1)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (401, "account"),
        (403, "licence"),
        (404, "there is no such file"),
        (410, "any more"),
        (204, "the file itself"),
        (451, "correct the addr"),
    ],
)
def test_what_will_not_change_is_final_at_once(server: str, tmp_path: Path, code: int, remedy: str) -> None:
    Handler.steps = [status(code)]
    with pytest.raises(ModelError, match=rf"the server answers {code} .*{remedy}"):
        fetch(spec_of(server), tmp_path)
    assert len(Handler.asked) == 1


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (status(503), "503 Service Unavailable, 5 times"),
        (lambda handler: handler.serve(most=1000), r"the connection broke after 1000 of \d+ bytes, 5 times"),
    ],
)
def test_errors_without_end_are_named_after_some_attempts(server: str, tmp_path: Path, step: Step, reason: str) -> None:
    Handler.steps = [step] * 20
    with pytest.raises(ModelError, match=rf"{reason}\): check the address and the network and run again"):
        fetch(spec_of(server), tmp_path)
    assert len(Handler.asked) == 5
    Handler.steps = []
    assert fetch(spec_of(server), tmp_path), "another run goes on"
    assert files(tmp_path) == [".lock", "m.gguf", "m.gguf.json"]


def test_a_connection_that_is_refused_and_a_name_that_is_none(tmp_path: Path, waits: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(ModelError, match="Connection refused, 5 times"):
        fetch(spec_of(f"http://127.0.0.1:{port}/m.gguf"), tmp_path)
    with pytest.raises(ModelError, match=r"no address that can be asked|cannot be resolved"):
        fetch(spec_of(f"http://{'a' * 300}/m.gguf"), tmp_path)
    assert len(waits) in (4, 8)


def test_attempts_that_bring_something_are_not_counted(server: str, tmp_path: Path, waits: list[float]) -> None:
    Handler.content = os.urandom(9 * 2**20)
    Handler.steps = [lambda handler: handler.serve(most=2**20)] * 8
    assert fetch(spec_of(server, hashlib.sha256(Handler.content).hexdigest()), tmp_path)
    assert set(waits) == {1}


def changed(handler: Handler) -> None:
    Handler.content, Handler.tag = OTHER, '"two"'
    handler.serve()


def changed_without_condition(handler: Handler) -> None:
    """A server that does not know If-Range: it gives a piece of what it has now, and says of what."""
    Handler.content, Handler.tag = OTHER, '"two"'
    handler.asked[-1] = (handler.asked[-1][0], None)
    handler.serve()


def another_piece(handler: Handler) -> None:
    handler.asked[-1] = ("bytes=5-", None)
    handler.serve()


@pytest.mark.parametrize("step", [changed, changed_without_condition])
@pytest.mark.parametrize("tag", ['"one"', None])
def test_a_file_that_changed_meanwhile_is_never_mixed(server: str, tmp_path: Path, step: Step, tag: str | None) -> None:
    Handler.tag, Handler.steps = tag, [cut, step]
    assert fetch(spec_of(server, OTHER_SHA256), tmp_path)
    assert (tmp_path / "m.gguf").read_bytes() == OTHER


def test_another_piece_than_the_one_that_was_asked_for_is_not_taken(server: str, tmp_path: Path) -> None:
    Handler.steps = [cut, another_piece]
    assert fetch(spec_of(server), tmp_path)
    assert Handler.asked[2:] == [(None, None)]


def test_a_server_without_ranges_starts_anew(server: str, tmp_path: Path) -> None:
    Handler.steps = [cut, lambda handler: handler.serve(most=50_000, ranges=False), lambda one: one.serve(ranges=False)]
    assert fetch(spec_of(server), tmp_path)
    assert len(Handler.asked) == 3


def test_a_file_of_untold_length_may_be_cut_and_is_fetched_again(server: str, tmp_path: Path) -> None:
    Handler.steps = [without_length]
    assert fetch(spec_of(server), tmp_path)
    assert Handler.asked == [(None, None), (None, None)]
    Handler.steps = [without_length, without_length]
    with pytest.raises(ModelError, match="has sha256"):
        fetch(spec_of(server, "0" * 64), tmp_path)


def test_another_process_goes_on_with_the_same_version_only(server: str, tmp_path: Path) -> None:
    Handler.steps = [cut, status(404)]
    with pytest.raises(ModelError):
        fetch(spec_of(server), tmp_path)
    assert files(tmp_path) == [".lock", ".m.gguf.part", ".m.gguf.part.version"]
    Handler.content, Handler.tag, Handler.asked = OTHER, '"two"', []
    assert fetch(spec_of(server, OTHER_SHA256), tmp_path)
    assert Handler.asked == [("bytes=100000-", '"one"')]


@pytest.mark.parametrize("version", [b"", b"[]", b'{"url": 3}', b"\xff\xfe", b'{"version": "a\\nb: c"}'])
def test_a_damaged_note_of_the_version_is_passed_over(server: str, tmp_path: Path, version: bytes) -> None:
    (tmp_path / ".m.gguf.part").write_bytes(CONTENT[:1000])
    (tmp_path / ".m.gguf.part.version").write_bytes(version)
    assert fetch(spec_of(server), tmp_path)
    assert Handler.asked == [("bytes=1000-", None)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec", "lfs"),
    ],
)
def test_what_came_in_place_of_the_model_is_named(server: str, tmp_path: Path, content: bytes, said: str) -> None:
    Handler.content = content
    with pytest.raises(ModelError, match=said):
        fetch(spec_of(server), tmp_path)
    assert files(tmp_path) == [".lock"]


def test_a_full_disk_is_no_fault_of_the_network(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", write)
    with pytest.raises(ModelError, match=r"models directory .* cannot be written \(No space left on device\)"):
        fetch(spec_of(server), tmp_path)
    assert len(Handler.asked) == 1
