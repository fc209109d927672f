"""What a model is, for people and as JSON: `pagelab model inspect`."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from pagelab.errors import printable
from pagelab.models.attention import in_words
from pagelab.models.gguf_map import GgufMap, bytes_per_token, bytes_per_token_by_class
from pagelab.terminal.plain import plain
from pagelab.units import format_bytes

_SHAPE = ("name", "architecture", "layers", "experts", "experts_used", "shared_experts", "expert_layers")
_WIDE = 10_000
_CONTENT = (
    "quantisation",
    "parameters",
    "vocabulary",
    "tied_embeddings",
    "has_chat_template",
    "data_offset",
    "weights_bytes",
)


def document(model: GgufMap) -> dict[str, Any]:
    """Everything about a model as plain JSON values, with the place of every tensor."""
    return {
        "summary": headline(model),
        "file": str(model.path),
        "parts": [str(part) for part in model.parts],
        "file_bytes": model.file_bytes,
        **{name: getattr(model, name) for name in _SHAPE},
        "attention": {**asdict(model.attention), "hybrid": model.attention.hybrid},
        **{name: getattr(model, name) for name in _CONTENT},
        "bytes_per_token": bytes_per_token(model),
        "bytes_by_class": model.bytes_by_class(),
        "bytes_per_token_by_class": bytes_per_token_by_class(model),
        "bytes_by_type": model.bytes_by_type(),
        "tensors": [asdict(tensor) for tensor in model.tensors],
    }


def headline(model: GgufMap) -> str:
    """Whether a model is dense or a mixture of experts, and what one token touches of it, in one line."""
    touched = bytes_per_token(model)
    share = f"{format_bytes(touched)} of {format_bytes(model.weights_bytes)} ({touched / model.weights_bytes:.0%})"
    return f"{_kind(model)}; a token touches {share} of the weights"


def _kind(model: GgufMap) -> str:
    if not model.expert_layers:
        return "dense"
    shared = f" and {model.shared_experts} shared" if model.shared_experts else ""
    experts = f"{model.experts_used} of {model.experts} experts a token{shared}"
    return f"mixture of experts: {experts}, in {model.expert_layers} of {model.layers} layers"


def print_tables(model: GgufMap) -> None:
    """Print what a model is, and its bytes by kind of tensor; to a file or a pipe without breaking a path."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    console.print(_facts_table(model))
    console.print(_classes_table(model))


def _facts_table(model: GgufMap) -> Table:
    table = Table(show_header=False, box=None)
    types = ", ".join(f"{kind} {size / model.weights_bytes:.0%}" for kind, size in model.bytes_by_type().items())
    split = f" and {len(model.parts) - 1} more parts" if len(model.parts) > 1 else ""
    rows = {
        "file": f"{model.path}{split}",
        "name": model.name,
        "architecture": model.architecture,
        "layers": model.layers,
        "attention": in_words(model.attention),
        "quantisation": f"{model.quantisation} ({types} of the bytes)",
        "parameters": f"{model.parameters:,}",
        "vocabulary": f"{model.vocabulary} tokens" if model.vocabulary else "none in the file",
        "embedding": "tied: also the output" if model.tied_embeddings else "not tied",
        "chat template": "yes" if model.has_chat_template else "no",
        "weights": f"{format_bytes(model.weights_bytes)} ({model.weights_bytes} bytes)",
        "touched by a token": f"{format_bytes(bytes_per_token(model))} ({bytes_per_token(model)} bytes)",
    }
    for name, value in rows.items():
        table.add_row(name, plain(printable(str(value))))
    return table


def _classes_table(model: GgufMap) -> Table:
    table = Table("tensors", "bytes", "share", "touched by a token")
    for column in table.columns[1:]:
        column.justify = "right"
    touched = bytes_per_token_by_class(model)
    for name, size in model.bytes_by_class().items():
        share = f"{size / model.weights_bytes:.1%}"
        table.add_row(name.replace("_", " "), str(size), share, str(touched[name]))
    return table
