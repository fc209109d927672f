"""Files between controller and host, in slices, resumable, checked by sha256 where they arrive.

What has arrived is kept in a `.part` file beside the destination. Its name holds the beginning of the checksum, so an
interrupted transfer is only ever continued with the same file.
"""

import base64
import binascii
import hashlib
import os
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible_collections.pagelab.lab.plugins.plugin_utils.remote import Remote

SLICE_BYTES = 16 * 1024**2
SHOW_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Transferred:
    """How a transfer went; `moved_bytes` is what this call moved, less than the size where an earlier one had begun."""

    changed: bool
    sha256: str
    size_bytes: int
    moved_bytes: int = 0


class Progress:
    """A line every ten seconds."""

    def __init__(self, remote: Remote, name: str, total_bytes: int) -> None:
        self._remote = remote
        self._name = name
        self._total_bytes = total_bytes
        self._shown = time.monotonic()

    def at(self, done_bytes: int) -> None:
        """So much is there."""
        if time.monotonic() - self._shown >= SHOW_EVERY_SECONDS:
            self._shown = time.monotonic()
            unit, name = (1e9, "GB") if self._total_bytes >= 1e9 else (1e6, "MB")
            self._remote.say(f"{self._name}: {done_bytes / unit:.1f} of {self._total_bytes / unit:.1f} {name}")


def sha256_of(path: Path) -> str:
    """The checksum of a file here."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- to the host ------------------------------------------------------------------------------------------------------


def send(
    remote: Remote, source: Path, dest: str, sha256: str, mode: str, *, check: bool, slice_bytes: int = SLICE_BYTES
) -> Transferred:
    """Bring a file to the host.

    Raises:
        AnsibleActionFail: the host refused, or what arrived is not what was sent.
    """
    size = source.stat().st_size
    part = f"{dest}.{sha256[:16]}.part"
    if _is_there(remote, dest, size, sha256):
        changed = _mode_of(remote, dest) != mode.lstrip("0")
        if changed and not check:
            _demand(remote, f"chmod -- {mode} {_quote(dest)}", f"cannot set the mode of {dest}")
        return Transferred(changed, sha256, size)
    if check:
        return Transferred(True, sha256, size)
    began_at = arrived = _size_of_part(remote, part, size)
    if began_at:
        remote.say(f"{source.name}: going on at {began_at / 1e6:.1f} of {size / 1e6:.1f} MB")
    progress = Progress(remote, source.name, size)
    with source.open("rb") as stream:
        stream.seek(began_at)
        while arrived < size:
            data = stream.read(slice_bytes)
            if not data:
                raise AnsibleActionFail(f"{source} became shorter while it was sent to {remote.host}: send it again")
            _write_slice(remote, part, arrived, data)
            arrived += len(data)
            progress.at(arrived)
    _finish_on_host(remote, part, dest, sha256, mode)
    return Transferred(True, sha256, size, arrived - began_at)


def _is_there(remote: Remote, dest: str, size: int, sha256: str) -> bool:
    path = _quote(dest)
    command = f'[ ! -f {path} ] || [ "$(stat -Lc %s -- {path})" != {size} ] || sha256sum <{path}'
    return _demand(remote, command, f"cannot read {dest}").split()[:1] == [sha256]


def _mode_of(remote: Remote, dest: str) -> str:
    return _demand(remote, f"stat -Lc %a -- {_quote(dest)}", f"cannot read {dest}").strip()


def _size_of_part(remote: Remote, part: str, size: int) -> int:
    """Where to go on; a part that cannot be the beginning of this file goes."""
    path = _quote(part)
    answer = _demand(remote, f"if [ -f {path} ]; then stat -c %s -- {path}; else : >{path}; fi", f"cannot write {part}")
    found = int(answer.strip() or 0)
    if found > size:
        _demand(remote, f": >{path}", f"cannot write {part}")
        return 0
    return found


def _write_slice(remote: Remote, part: str, offset: int, data: bytes) -> None:
    """Write at its very place, so that one that is repeated after an interruption does no harm.

    The input is read to its end also where the disk is full: the connection would report nothing but a broken pipe.
    """
    write = f"dd of={_quote(part)} bs=64K iflag=fullblock oflag=seek_bytes seek={offset} conv=notrunc status=none"
    command = f"{write}; code=$?; cat >/dev/null; [ $code = 0 ] && stat -c %s -- {_quote(part)}"
    answer = _demand(remote, command, f"cannot write {part}", data)
    if int(answer.strip() or 0) < offset + len(data):
        raise AnsibleActionFail(f"{part} on {remote.host} is shorter than what was written to it: send it again")


def _finish_on_host(remote: Remote, part: str, dest: str, sha256: str, mode: str) -> None:
    path = _quote(part)
    found = _demand(remote, f"sync -- {path} && sha256sum <{path}", f"cannot read {part}").split()[0]
    if found != sha256:
        _demand(remote, f"rm -f -- {path}", f"cannot remove {part}")
        raise AnsibleActionFail(
            f"{dest} arrived damaged on {remote.host} (sha256 {found}, not {sha256}); it was removed: send it again"
        )
    others = f"{_quote(dest)}.[0-9a-f]*.part"  # begun with another content, which nobody will go on with
    command = f"chmod -- {mode} {path} && mv -fT -- {path} {_quote(dest)} && rm -f -- {others}"
    _demand(remote, command, f"cannot rename {part}")


@dataclass(frozen=True)
class Written:
    """A small text file on the host: whether it had to be written, and what was there before."""

    changed: bool
    before: str


def write(remote: Remote, text: str, dest: str, mode: str, *, check: bool) -> Written:
    """Give a file on the host this text; it is replaced whole or not at all.

    Raises:
        AnsibleActionFail: the host refused.
    """
    path, part = _quote(dest), _quote(f"{dest}.part")
    found = _demand(remote, f"[ ! -f {path} ] || {{ stat -Lc %a -- {path} && cat -- {path}; }}", f"cannot read {dest}")
    mode_before, _, before = found.partition("\n")
    if (mode_before, before) == (mode.lstrip("0"), text):
        return Written(False, before)
    if not check:
        command = f"cat >{part} && chmod -- {mode} {part} && sync -- {part} && mv -fT -- {part} {path}"
        _demand(remote, command, f"cannot write {dest}", text.encode())
    return Written(True, before)


# --- from the host ----------------------------------------------------------------------------------------------------


def receive(remote: Remote, source: str, dest: Path, sha256: str, *, slice_bytes: int = SLICE_BYTES) -> Transferred:
    """Bring a file from the host.

    Raises:
        AnsibleActionFail: it is not there, the disk here refused, or what arrived is not what the host has.
    """
    size = int(_demand(remote, f"stat -Lc %s -- {_quote(source)}", f"cannot read {source}").strip())
    if dest.is_file() and dest.stat().st_size == size and sha256_of(dest) == sha256:
        return Transferred(False, sha256, size)
    part = dest.with_name(f"{dest.name}.{sha256[:16]}.part")
    try:
        moved = _receive_part(remote, source, part, size, slice_bytes)
        found = sha256_of(part)
        if found != sha256:
            part.unlink()
            raise AnsibleActionFail(
                f"{source} of {remote.host} arrived damaged (sha256 {found}, not {sha256}); removed: fetch it again"
            )
        part.replace(dest)
        for other in dest.parent.glob(f"{glob_escape(dest.name)}.*.part"):
            other.unlink()
    except OSError as error:
        raise AnsibleActionFail(f"cannot write {part}: {error.strerror}; what has arrived is kept") from error
    return Transferred(True, sha256, size, moved)


def glob_escape(name: str) -> str:
    """A file name as a pattern that matches only itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _receive_part(remote: Remote, source: str, part: Path, size: int, slice_bytes: int) -> int:
    began_at = arrived = part.stat().st_size if part.exists() else 0
    if began_at > size:
        part.unlink()
        began_at = arrived = 0
    if began_at:
        remote.say(f"{part.name}: going on at {began_at / 1e6:.1f} of {size / 1e6:.1f} MB")
    progress = Progress(remote, Path(source).name, size)
    with part.open("ab") as stream:
        while arrived < size:
            data = _read_slice(remote, source, arrived, min(slice_bytes, size - arrived))
            stream.write(data)
            stream.flush()
            arrived += len(data)
            progress.at(arrived)
        os.fsync(stream.fileno())
    return arrived - began_at


def _read_slice(remote: Remote, source: str, offset: int, count: int) -> bytes:
    """Read as text, because Ansible takes a command's output for text."""
    read = (
        f"dd if={_quote(source)} bs=1M iflag=skip_bytes,count_bytes,fullblock skip={offset} count={count} status=none"
    )
    answer = _demand(remote, f"{read} | base64 -w0", f"cannot read {source}")
    data = b""
    with suppress(binascii.Error):
        data = base64.b64decode(answer.strip(), validate=True)
    if len(data) != count:
        raise AnsibleActionFail(f"{source} on {remote.host} could not be read to its end: fetch it again")
    return data


# --- both -------------------------------------------------------------------------------------------------------------


def _quote(path: str) -> str:
    return shlex.quote(path)


def _demand(remote: Remote, command: str, problem: str, data: bytes | None = None) -> str:
    """Run a command that has to work."""
    answer = remote.run(command, data) if data is not None else remote.run(command)
    if answer.code != 0:
        raise AnsibleActionFail(f"{problem} on {remote.host}: {answer.reason}")
    return answer.output
