"""The format's numbers are those of the gguf package. A newer one that knows more of them fails here: then add them."""

from gguf import constants

from pagelab.models.gguf_format import (
    DEFAULT_ALIGNMENT,
    FILE_TYPES,
    MAGIC,
    SUPPORTED_VERSIONS,
    TENSOR_TYPES,
    TensorType,
    ValueType,
)


def test_start_of_a_file() -> None:
    assert constants.GGUF_MAGIC == MAGIC
    assert SUPPORTED_VERSIONS[-1] == constants.GGUF_VERSION
    assert constants.GGUF_DEFAULT_ALIGNMENT == DEFAULT_ALIGNMENT


def test_types() -> None:
    sizes = constants.GGML_QUANT_SIZES
    assert {kind.name: kind.value for kind in ValueType} == {kind.name: kind for kind in constants.GGUFValueType}
    assert {int(kind): TensorType(kind.name, *size) for kind, size in sizes.items()} == TENSOR_TYPES


def test_file_types() -> None:
    named = {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in constants.LlamaFileType}
    assert named.pop(constants.LlamaFileType.GUESSED) == "GUESSED"  # never written to a file
    assert named == FILE_TYPES
