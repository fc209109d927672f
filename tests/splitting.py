"""Splits a model into several files as llama-gguf-split does."""

from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter


def split_model(model: Path, directory: Path, parts: int) -> list[Path]:
    """Write a GGUF model as `parts` files in a directory, about as many tensors in each; their paths in order."""
    reader = GGUFReader(model)
    writer = GGUFWriter(
        directory / f"{model.stem}.gguf",
        "llama",
        split_max_tensors=-(-len(reader.tensors) // parts),
        use_temp_file=False,
    )
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind = field.types[0]
            element = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub_type=element)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    paths = sorted(directory.glob(f"{model.stem}-?????-of-{parts:05d}.gguf"))
    assert len(paths) == parts
    return paths
