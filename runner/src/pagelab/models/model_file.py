"""A model's file, opened: a regular one, or what it is instead, with what helps there.

What lies in the place of a model is often no damaged model: a pointer of Git LFS, one piece of a file that was cut for
a transfer, a web page. Fetching those again gives the same once more.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pagelab.errors import ModelError, shown

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}
_LOOKED_AT_BYTES = 512
_WEB_PAGE = "it is a web page in place of the model: take the address that downloads the file, not that of its page"
# What a file begins with, in lower case, and what is said of it.
_BEGINNINGS = {
    b"version https://git-lfs.github.com/": "it is a pointer of Git LFS, a short text in place of the model: "
    "get the model itself by `git lfs pull` in its repository, or from the address that downloads it",
    b"<!doctype html": _WEB_PAGE,
    b"<html": _WEB_PAGE,
    b'{"error"': "it is a server's error in place of the model: look into it, and download the file again",
    b"\x28\xb5\x2f\xfd": "it is compressed by zstd: decompress it by `zstd -d`",
    b"\x1f\x8b": "it is compressed by gzip: decompress it by `gunzip`",
    b"\xfd7zxz\0": "it is compressed by xz: decompress it by `unxz`",
}
# As `split` and those who publish large models call them: m.gguf.aa, m.gguf.001, m.gguf-split-a, m.gguf.part1of3, xaa.
_PIECE = re.compile(
    r"(?P<whole>.*\.gguf|x)(?P<mark>[.-]?(?:part|split)?[-_.]?)(?P<number>[a-z]{1,3}|\d{1,4})(?:of\d+)?"
)
_FIRST_NUMBER = re.compile(r"a{2,3}|0{1,4}|0{1,3}1")


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The descriptor of a model's file, to read from; it does not wait for a writer where the file is a pipe.

    Raises:
        ModelError: there is no file, it cannot be read, or it is no regular one.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{shown(path)} cannot be read ({reason}): give the path of a GGUF file") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "a directory")
            raise ModelError(f"{shown(path)} cannot be read (it is {kind}): give the path of a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def size_of(descriptor: int) -> int:
    """The bytes of an open file."""
    return os.fstat(descriptor).st_size


def another_thing(path: Path) -> str | None:
    """What a file is in place of a whole model, and what helps; None where it may be a model, whole or not."""
    with opened(path) as descriptor:
        beginning = os.pread(descriptor, _LOOKED_AT_BYTES, 0).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    found = next((said for begin, said in _BEGINNINGS.items() if beginning.startswith(begin)), None)
    return found or _piece(path)


def _piece(path: Path) -> str | None:
    """What is said of one piece of a file, by its name or those beside it."""
    match = _PIECE.fullmatch(path.name)
    if match is None:
        return None
    before = path.name[: match.start("number")]
    marked = len(match["mark"]) > 1 or (match["whole"] != "x" and _FIRST_NUMBER.fullmatch(match["number"]))
    if not marked and not _others_beside(path, before):
        return None
    whole = match["whole"] if match["whole"] != "x" else "model.gguf"
    return (
        f"it is one piece of a file that was cut, as `split` does: join all pieces in order, "
        f"`cat {shown(before)}* > {shown(whole)}`, and give the whole file"
    )


def _others_beside(path: Path, before: str) -> bool:
    """Whether another piece of the same file lies beside this one."""
    try:
        names = [one.name for one in path.parent.iterdir()]
    except OSError:
        return False
    return any(
        name != path.name and len(name) == len(path.name) and name.startswith(before) and _PIECE.fullmatch(name)
        for name in names
    )
