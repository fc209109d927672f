"""A model in several files runs as one: all of it is evicted, limited, looked at and traced."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest

from lab import MODELS, Call, needs_lab, needs_root, own_faults, remove_model, run, write_config
from pagelab.models.gguf_map import read_gguf_map
from splitting import split_model

pytestmark = [needs_root, needs_lab]

PARTS = 3


@pytest.fixture(scope="module")
def files(dense_model: Path) -> Iterator[list[Path]]:
    """The shared model in three files."""
    paths = split_model(dense_model, MODELS, PARTS)
    yield paths
    for path in paths:
        remove_model(path)


@pytest.fixture(scope="module")
def ran(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """A run in RAM and half in RAM; the files are in the page cache before it."""
    directory = tmp_path_factory.mktemp("split")
    checksums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    models = [{"name": "split", "source": {"file": files[0].name, "sha256": checksums}}]
    config = write_config(directory / "split.yml", models=models, factors={"resident": [1.0, 0.5]})
    yield run(config, directory / "results")
    shutil.rmtree(directory)


def test_a_split_model_runs_and_keeps_its_share(ran: Call, dense_model: Path) -> None:
    assert ran.code == 0, ran.show()
    whole = read_gguf_map(dense_model)
    for record in ran.store.read_trials():
        assert own_faults(record) == []
        assert record.weights_bytes == whole.weights_bytes
    half = ran.trial(resident=0.5)
    assert half.limit.effective
    assert half.residency.achieved_fraction == pytest.approx(0.5, abs=0.03)


def test_every_tensor_of_every_file_is_looked_at(ran: Call, dense_model: Path) -> None:
    table = ran.store.read_trial_table(ran.trial(resident=1.0).trial, "residency")
    assert table is not None
    assert set(table["tensor"].to_pylist()) == {tensor.name for tensor in read_gguf_map(dense_model).tensors}
    assert pc.sum(table["resident_before_bytes"]).as_py() == 0, "all files were evicted"
    # One row of the embedding is all that a token touches.
    used = table.filter(pc.not_equal(table["tensor"], "token_embd.weight"))
    pairs = list(zip(used["resident_after_bytes"].to_pylist(), used["bytes"].to_pylist(), strict=True))
    assert all(after > 0 for after, _ in pairs)
    # A host that pages cold memory out by itself may have taken some pages.
    assert sum(after == size for after, size in pairs) >= 0.95 * len(pairs), pairs
    assert sum(after for after, _ in pairs) >= 0.999 * sum(size for _, size in pairs), pairs


def test_reads_are_traced_to_each_file_and_their_tensors(ran: Call, files: list[Path]) -> None:
    half = ran.trial(resident=0.5)
    blocks = ran.store.read_trial_table(half.trial, "block_io")
    assert blocks is not None
    of_model = blocks.filter(pc.equal(blocks["source"], "model"))
    assert sorted(set(of_model["file_part"].to_pylist())) == list(range(PARTS))
    parts = {tensor.name: tensor.part for tensor in read_gguf_map(files[0]).tensors}
    placed = of_model.filter(pc.is_valid(of_model["tensor"]))
    pairs = zip(placed["tensor"].to_pylist(), placed["file_part"].to_pylist(), strict=True)
    assert all(parts[tensor] == part for tensor, part in pairs)
