#!/usr/bin/env python3
"""Takes llama-cli's place in the tests of known answers: reads a model file in a way that it counts itself.

The prompt is JSON: {"pattern": NAME, "bytes": N, "start": PATH, "end": PATH, "answer": PATH, ...}. It loads as
llama.cpp does (maps the file and touches all of it, unless "load" is false), prints that it is ready and a first token,
waits for the file START, does what the pattern says, prints the last token, waits for END, and leaves what it did in
ANSWER.
"""

import argparse
import ctypes
import json
import mmap
import random
import resource
import sys
import threading
import time
from pathlib import Path

PAGE = mmap.PAGESIZE
PR_SET_NAME = 15
libc = ctypes.CDLL(None, use_errno=True)


class Region:
    """A mapping whose pages are touched one at a time."""

    def __init__(self, view):
        self.view = view
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        self.pages = len(view) // PAGE
        self.came = 0  # pages that were not in RAM when they were touched
        self.vector = (ctypes.c_ubyte * 1)()

    def touch(self, page):
        """Read a byte; the call lets go of Python's lock, so that threads fault side by side."""
        libc.memchr(ctypes.c_void_p(self.address + page * PAGE), 256, ctypes.c_size_t(1))

    def is_in_ram(self, page):
        """By mincore(2): in the page cache; for anonymous memory present, or swapped and still in the swap cache."""
        libc.mincore(ctypes.c_void_p(self.address + page * PAGE), ctypes.c_size_t(PAGE), self.vector)
        return bool(self.vector[0] & 1)

    def count_and_touch(self, pages):
        """Touch pages in the given order and count those that had to come."""
        for page in pages:
            self.came += not self.is_in_ram(page)
            self.touch(page)


def map_model(path, in_order_at_load):
    """The model, privately mapped; without readahead after loading, so that a touch brings one page and no other."""
    with Path(path).open("rb") as file:
        view = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    region = Region(view)
    if in_order_at_load:
        for page in range(region.pages):
            region.touch(page)
    view.madvise(mmap.MADV_RANDOM)
    return region


def in_order(model, asked):
    model.count_and_touch(range(asked["bytes"] // PAGE))


def at_random(model, asked):
    pages = list(range(model.pages))
    random.Random(asked["seed"]).shuffle(pages)  # noqa: S311 - the same order every time
    model.count_and_touch(pages[: asked["bytes"] // PAGE])


def again_and_again(model, asked):
    for _ in range(asked["times"]):
        model.count_and_touch(range(asked["bytes"] // PAGE))


def with_threads(model, asked):
    count, each = asked["threads"], asked["bytes"] // PAGE // asked["threads"]
    parts = [range(each * index, each * (index + 1)) for index in range(count)]
    model.came = sum(not model.is_in_ram(page) for part in parts for page in part)
    threads = [threading.Thread(target=lambda part=part: [model.touch(page) for page in part]) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def anonymous(_model, asked):
    """Only anonymous memory: written once while loading, then read in order again and again."""
    for _ in range(asked["times"]):
        asked["region"].count_and_touch(range(asked["region"].pages))


PATTERNS = {f.__name__: f for f in (in_order, at_random, again_and_again, with_threads, anonymous)}


def say(stream, text):
    stream.write(text)
    stream.flush()


def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.001)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--prompt")
    given, _ = parser.parse_known_args()
    asked = json.loads(given.prompt)
    libc.prctl(PR_SET_NAME, b"llama-cli")
    model = map_model(given.model, asked.get("load", True))
    region = model
    if asked["pattern"] == "anonymous":
        region = asked["region"] = Region(mmap.mmap(-1, asked["bytes"], mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        for page in range(region.pages):
            region.view[page * PAGE] = 1 + page % 255  # not zero: a page of zeros could be kept as nothing
    say(sys.stderr, "generate: n_ctx = 512\n")
    say(sys.stdout, "a")
    wait_for(asked["start"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    PATTERNS[asked["pattern"]](model, asked)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before
    say(sys.stdout, "b")
    wait_for(asked["end"])
    Path(asked["answer"]).write_text(json.dumps({"came_pages": region.came, "major_faults": faults}))


main()
