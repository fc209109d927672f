"""How much of each tensor was in RAM: before a trial, on average while it decoded, and after it."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pagelab.host.page_cache import Pages, opened, resident_pages
from pagelab.host.procfs import PAGE_BYTES
from pagelab.models.gguf_map import GgufMap
from pagelab.models.tensors import Tensor


class TensorResidency:
    """Looks at a model's tensors in the page cache; use it as a context, which keeps the files open.

    A page that two tensors share counts for the later one.
    """

    def __init__(self, model: GgufMap) -> None:
        held = [tensor for tensor in model.tensors if tensor.bytes]  # one of no bytes would take a page from others
        self._tensors = sorted(held, key=lambda tensor: (tensor.part, tensor.offset))
        self._opened = ExitStack()
        self._descriptors: list[int] = []
        self._files = [
            (path, _bounds([tensor for tensor in self._tensors if tensor.part == part]))
            for part, path in enumerate(model.parts)
        ]
        self._lock = threading.Lock()
        self._sum = np.zeros(len(self._tensors), dtype=np.int64)
        self._looks = 0
        self._decoding = False
        self.before: Pages | None = None
        self.after: Pages | None = None

    def __enter__(self) -> "TensorResidency":
        """Open the model's files and look at them for the first time."""
        self._descriptors = [self._opened.enter_context(opened(path)) for path, _ in self._files]
        self.before = self._pages()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._opened.close()

    @property
    def before_bytes(self) -> int:
        """What of the weights was in the page cache before the trial."""
        return 0 if self.before is None else _total_bytes(self.before)

    def _pages(self) -> Pages:
        looks = zip(self._descriptors, self._files, strict=True)
        return np.concatenate([resident_pages(descriptor, bounds) for descriptor, (_, bounds) in looks])

    def look(self) -> int:
        """Bytes of the weights in the page cache; while decoding, each look enters the tensors' averages."""
        return _total_bytes(self._look())

    def _look(self) -> Pages:
        pages = self._pages()
        with self._lock:
            if self._decoding:
                self._sum += pages
                self._looks += 1
        return pages

    def begin_decoding(self) -> None:
        """The first token came; takes no time, because the second is close behind it."""
        with self._lock:
            self._decoding = True

    def end_decoding(self) -> int:
        """The last token came; answers as `look`."""
        self.after = self._look()
        with self._lock:
            self._decoding = False
        return _total_bytes(self.after)

    def table(self) -> pa.Table:
        """One row a tensor, in the order of the files; bytes of it in RAM, null where nothing was seen."""
        sizes = np.array([tensor.bytes for tensor in self._tensors], dtype=np.int64)
        mean = self._sum / self._looks if self._looks else None
        return pa.table(
            {
                "tensor": pa.array([tensor.name for tensor in self._tensors]),
                "tensor_class": pa.array([tensor.tensor_class for tensor in self._tensors]),
                "layer": pa.array([tensor.layer for tensor in self._tensors], pa.int32()),
                "bytes": pa.array(sizes),
                "resident_before_bytes": _bytes(self.before, sizes),
                "resident_decode_bytes": _bytes(mean, sizes),
                "resident_after_bytes": _bytes(self.after, sizes),
            }
        )


def _bounds(tensors: Sequence[Tensor]) -> list[int]:
    """Where each tensor of a file begins, by page, and where the last one ends; the first file may have none."""
    if not tensors:
        return [0]
    return [*(tensor.offset // PAGE_BYTES * PAGE_BYTES for tensor in tensors), tensors[-1].offset + tensors[-1].bytes]


def _total_bytes(pages: Pages) -> int:
    return int(pages.sum()) * PAGE_BYTES


def _bytes(pages: Pages | NDArray[np.float64] | None, sizes: NDArray[np.int64]) -> pa.Array:
    """Pages as bytes of the tensor, which may end inside its last page."""
    if pages is None:
        return pa.nulls(len(sizes), pa.float64())
    return pa.array(np.minimum(pages * PAGE_BYTES, sizes).astype(np.float64))
