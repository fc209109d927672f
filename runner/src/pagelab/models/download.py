"""One file from a web server, whatever happens on the way: what was received stays, and the next attempt goes on there.

A connection that breaks, stalls or ends early, a server that is overloaded (408, 425, 429, 5xx) or an address that
cannot be resolved just now is tried again, with growing waits or the one that the server asks for (Retry-After, RFC
9110). Attempts that bring something are not counted. What will be the same the next time (404, a certificate that is
not trusted) is final at once.

An attempt goes on where the last one stopped by a range that holds only for the same version of the file (If-Range with
its ETag or date); which version the received bytes are of is in a file beside them.
"""

import email.utils
import http.client
import json
import os
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from pagelab.errors import ModelError, shown
from pagelab.models.synthetic import require_room
from pagelab.units import MIB, format_seconds

_ATTEMPTS = 5  # one after the other that bring next to nothing
_TIMEOUT_SECONDS = 60.0
_PROGRESS_BYTES = MIB
_LONGEST_WAIT_SECONDS = 300.0
_BLOCK_BYTES = MIB // 4
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_NEVER = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}
_REMEDIES = {
    HTTPStatus.UNAUTHORIZED: "the file needs an account: download it by hand and give it as `file:`",
    HTTPStatus.FORBIDDEN: "the file needs an account or a licence that was accepted, or the server refuses this "
    "address: download it by hand and give it as `file:`",
    HTTPStatus.NOT_FOUND: "there is no such file: correct the address",
    HTTPStatus.GONE: "there is no such file any more: give another address",
}
_GO_ON = "run again, it goes on where it stopped"


class _PassingError(Exception):
    """An attempt failed in a way that may pass; `wait_seconds` is what the server asks for."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


def download(url: str, part: Path, timeout_seconds: float = _TIMEOUT_SECONDS) -> bool:
    """Receive a file, or what is missing of it; says whether another download might give something else.

    That is where it was put together from several attempts, or where the server did not say how long the file is.

    Raises:
        ModelError: the server refuses, or does not give the file in any of several attempts; or the disk is full.
        OSError: the disk refuses otherwise.
    """
    resumed = _have(part) > 0
    failed = 0
    while True:
        before = _have(part)
        try:
            ends = _attempt(url, part, timeout_seconds)
        except _PassingError as error:
            failed = 0 if _have(part) >= before + _PROGRESS_BYTES else failed + 1
            resumed = _have(part) > 0
            _wait(url, error, failed)
        else:
            _version_path(part).unlink(missing_ok=True)
            return resumed or not ends


def discard(part: Path) -> None:
    """Remove what was received, and which version it is of."""
    for path in (part, _version_path(part)):
        path.unlink(missing_ok=True)


def _have(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _version_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _wait(url: str, error: _PassingError, failed: int) -> None:
    if failed >= _ATTEMPTS:
        raise ModelError(
            f"{shown(url)} cannot be downloaded ({error}, {failed} times): check the address and the network and "
            f"{_GO_ON}"
        ) from error
    if error.wait_seconds is not None and error.wait_seconds > _LONGEST_WAIT_SECONDS:
        raise ModelError(
            f"{shown(url)} cannot be downloaded now ({error}), the server asks to wait "
            f"{format_seconds(error.wait_seconds)}: wait so long and {_GO_ON}"
        ) from error
    time.sleep(2 ** max(failed - 1, 0) if error.wait_seconds is None else error.wait_seconds)


def _attempt(url: str, part: Path, timeout_seconds: float) -> bool:
    """Receive the file, or what is missing of it; says whether the server told where it ends.

    Raises:
        _PassingError: another attempt may bring more.
        ModelError: none will.
    """
    have = _have(part)
    version = _read_version(part, url)
    response = _answer(url, have, version, timeout_seconds)
    if response is None:  # there is nothing behind what was received; its sha256 decides
        return True
    with response:
        expected = response.length  # counts down as the file is read
        start = _start_of(response, have, version)
        if start is None:  # a piece of another version, or another piece: everything anew
            discard(part)
            raise _PassingError("the file on the server is not the one that was begun")
        with part.open("r+b" if part.exists() else "wb") as output:
            output.truncate(start)
            output.seek(start)
            _write_version(part, url, response)
            _receive(response, output, part)
        return response.chunked or expected is not None


def _answer(url: str, have: int, version: str | None, timeout_seconds: float) -> http.client.HTTPResponse | None:
    """What the server answers; None where it has nothing behind what was received."""
    headers = {"User-Agent": "pagelab"} | ({"Range": f"bytes={have}-"} if have else {})
    headers |= {"If-Range": version} if have and version is not None else {}
    try:
        request = urllib.request.Request(_address(url), headers=headers)  # noqa: S310 - UrlSource allows http(s) only
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout_seconds)  # noqa: S310 - as above
    except urllib.error.HTTPError as error:
        with error:
            if have and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return None
            raise _of_status(url, error) from error
    except (http.client.InvalidURL, ValueError) as error:
        raise ModelError(f"{shown(url)} is no address that can be asked ({shown(error)}): correct it") from error
    except (OSError, http.client.HTTPException) as error:
        raise _of_connection(url, error) from error
    if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        with response:
            raise ModelError(
                f"{shown(url)} cannot be downloaded (the server answers {response.status} {shown(response.reason)}): "
                "give the address of the file itself"
            )
    return response


def _address(url: str) -> str:
    """The address as it is sent: letters beyond ASCII, and spaces, in its path are escaped."""
    parts = urllib.parse.urlsplit(url)
    path, query = (urllib.parse.quote(part, safe="/%:@!$&'()*+,;=~?") for part in (parts.path, parts.query))
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.encode("idna").decode(), path, query, ""))


def _of_status(url: str, error: urllib.error.HTTPError) -> Exception:
    """The error of an answer that is no file."""
    said = f"the server answers {error.code} {shown(error.reason)}"
    if error.code in _PASSING or (error.code >= HTTPStatus.INTERNAL_SERVER_ERROR and error.code not in _NEVER):
        return _PassingError(said, _retry_after(error.headers.get("Retry-After")))
    status = HTTPStatus(error.code) if error.code in set(HTTPStatus) else None
    remedy = _REMEDIES.get(status, "correct the address") if status else "correct the address"
    return ModelError(f"{shown(url)} cannot be downloaded ({said}): {remedy}")


def _of_connection(url: str, error: Exception) -> Exception:
    """The error of a connection: one that may pass, but for a server that does not prove who it is."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ModelError(
            f"{shown(url)} cannot be downloaded (its certificate is not trusted: {shown(reason.verify_message)}): "
            "correct the address, the clock, or the certificates of this machine"
        )
    return _PassingError(_in_words(reason))


def _in_words(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "the server did not answer in time"
    if isinstance(reason, http.client.IncompleteRead):
        return "the connection broke in the middle"
    if isinstance(reason, socket.gaierror):
        return f"the name of the host cannot be resolved: {reason.strerror}"
    text = getattr(reason, "strerror", None) or reason
    return shown(text) if str(text) else type(reason).__name__


def _retry_after(value: str | None) -> float | None:
    """The seconds that a server asks to wait, which it says as such or as a date; None where it asks nothing."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value.strip()[:9])
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _start_of(response: http.client.HTTPResponse, have: int, version: str | None) -> int | None:
    """From which byte on the answer is; None for one that does not go on with what was received."""
    if response.status == HTTPStatus.OK:
        return 0
    first = (response.headers.get("Content-Range") or f"bytes {have}-").removeprefix("bytes").strip().partition("-")[0]
    other = version is not None and _version_of(response) not in (None, version)
    return have if first == str(have) and not other else None


def _receive(response: http.client.HTTPResponse, output: BinaryIO, part: Path) -> None:
    """Write down what comes; the connection and the disk are told apart where either fails."""
    expected, received = response.length, 0
    require_room(part, expected or 0)
    while True:
        try:
            block = response.read1(_BLOCK_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as error:
            _flush(output)
            raise _PassingError(_in_words(error)) from error
        if not block:
            break
        output.write(block)
        received += len(block)
    _flush(output)
    # A connection that breaks looks like the end of the file.
    if expected is not None and received < expected:
        raise _PassingError(f"the connection broke after {received} of {expected} bytes")


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


# --- which version of the file was begun ------------------------------------------------------------------------------


def _version_of(response: http.client.HTTPResponse) -> str | None:
    """What If-Range may name: a strong ETag, or else the date of the last change."""
    tag = response.headers.get("ETag")
    return tag if tag and tag.startswith('"') else response.headers.get("Last-Modified")


def _write_version(part: Path, url: str, response: http.client.HTTPResponse) -> None:
    _version_path(part).write_text(json.dumps({"url": url, "version": _version_of(response)}) + "\n")


def _read_version(part: Path, url: str) -> str | None:
    """The version that was begun from this address; None where it is not known."""
    with suppress(OSError, ValueError, AttributeError):
        document = json.loads(_version_path(part).read_text())
        version = document.get("version") if document.get("url") == url else None
        return version if isinstance(version, str) and version.isprintable() and version.isascii() else None
    return None
