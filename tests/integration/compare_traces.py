"""Converts trace directories and prints what each saw of the model, as JSON: compare_traces.py SECONDS DIRECTORY..."""

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pagelab.analysis.access.pattern import access_of_block_io
from pagelab.host.procfs import PAGE_BYTES
from pagelab.store.files import read_table
from pagelab.store.run_store import read_trace_record
from pagelab.traces.convert import convert

DIRECT_BYTES = 64 << 10  # what recorded_reader.py reads at once past the page cache, where there is no readahead


def pages_of(offsets: pa.ChunkedArray, sizes: pa.ChunkedArray) -> str:
    """Hash of the set of pages that these ranges of the file cover."""
    first = np.asarray(offsets) // PAGE_BYTES
    ends = -(-(np.asarray(offsets) + np.asarray(sizes)) // PAGE_BYTES)
    pages = {page for one, end in zip(first.tolist(), ends.tolist(), strict=True) for page in range(one, end)}
    return hashlib.sha256(repr(sorted(pages)).encode()).hexdigest()


def seen(directory: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """By source: the recorder's name for its block events, `page_cache` for pages that entered the page cache.

    Beside them `whole_model` and `nothing`, to compare page sets with.

    Only what completed within so many seconds of the trace's start counts, as in the disk's own counter.
    """
    size = sum(file.bytes for file in read_trace_record(directory).files if file.kind == "model")
    found: dict[str, dict[str, Any]] = {
        "whole_model": {"pages_sha256": pages_of(pa.chunked_array([[0]]), pa.chunked_array([[size]]))},
        "nothing": {"pages_sha256": pages_of(pa.chunked_array([[]], pa.int64()), pa.chunked_array([[]], pa.int64()))},
    }
    with tempfile.TemporaryDirectory(dir=directory) as place:
        target = Path(place)
        convert(directory, target)
        block, pages = target / "block_io.parquet", target / "page_cache.parquet"
        if block.exists():
            table = read_table(block)
            within = pc.and_(pc.greater_equal(table["time_ns"], 0), pc.less(table["time_ns"], round(seconds * 1e9)))
            table = table.filter(pc.and_(within, pc.equal(table["operation"], "read")))
            model = table.filter(pc.is_valid(table["file_offset_bytes"]))
            found[directory.name] = {
                "reads": table.num_rows,
                "read_bytes": pc.sum(table["bytes"]).as_py(),
                "pages_sha256": pages_of(model["file_offset_bytes"], model["model_bytes"]),
                "order_mapped": access_of_block_io(block, read_trace_record(directory).readahead_bytes),
                "order_direct": access_of_block_io(block, DIRECT_BYTES),
            }
        if pages.exists():
            table = read_table(pages)
            added = table.filter(pc.equal(table["event"], "add"))
            found["page_cache"] = {"pages_sha256": pages_of(added["file_offset_bytes"], added["bytes"])}
    return found


if __name__ == "__main__":
    answers: dict[str, Any] = {}
    for name in sys.argv[2:]:
        answers |= seen(Path(name), float(sys.argv[1]))
    sys.stdout.write(json.dumps(answers) + "\n")
