"""Whatever a header says: a model or one sentence, after no more than what the header is long."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from fuzzing import how_many
from gguf import GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from damaging import Damage, damages
from pagelab.errors import ModelError, printable
from pagelab.models.gguf_header import READ_BYTES
from pagelab.models.gguf_map import expert_ranges, read_gguf_map
from pagelab.terminal import model as shown

NAMES = ("token_embd", "blk.0.attn_q", "blk.0.ffn_gate_inp", "blk.0.ffn_up_exps", "blk.1.ffn_up.3", "output")
WEIGHTS_BYTES = 1 << 20


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """That of a mixture of experts with a short vocabulary: nearly every byte of it says something."""
    path = tmp_path_factory.mktemp("model") / "m.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_name("a model")
    writer.add_block_count(2)
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    writer.add_head_count(8)
    writer.add_head_count_kv([2, 0])
    writer.add_token_list(["a", "b", "", "longer"])
    writer.add_token_scores([0.5] * 4)
    writer.add_chat_template("{{ messages }}")
    for name in NAMES:
        writer.add_tensor(f"{name}.weight", np.ones((4, 2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()[: read_gguf_map(path).data_offset]


def read_so_far() -> int:
    """Bytes that this process has read by system calls (proc_pid_io(5), rchar)."""
    return int(Path("/proc/self/io").read_text().split()[1])


@settings(
    max_examples=how_many(2000),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(damage=damages, size=st.sampled_from([0, WEIGHTS_BYTES, 1 << 40]))
def test_a_damaged_header_is_a_model_or_one_sentence(
    header: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage, size: int
) -> None:
    path = tmp_path / "m.gguf"
    content = damage(header)
    path.write_bytes(content)
    if size:
        os.truncate(path, max(size, len(content)))  # sparse, so that whatever is said to follow may be there
    before = read_so_far()
    try:
        model = read_gguf_map(path)
    except ModelError as error:
        said = str(error)
        assert printable(said) == said
        assert len(said) < 1000
        assert read_so_far() - before < len(content) + 200 * READ_BYTES
        return
    file_bytes = path.stat().st_size
    assert all(tensor.offset >= 0 and tensor.offset + tensor.bytes <= file_bytes + 2**32 for tensor in model.tensors)
    assert all(tensor.offset + tensor.bytes <= file_bytes for tensor in model.tensors if tensor.bytes)
    assert all(one.bytes >= 0 for tensor in model.tensors for one in expert_ranges(tensor))
    document = shown.document(model)
    assert 0 <= document["bytes_per_token"] <= document["weights_bytes"] <= file_bytes
    monkeypatch.setattr(shown, "Console", lambda: Console(file=io.StringIO(), width=200))
    shown.print_tables(model)
