"""The digest by which images are compared between engines: of the layers, and of nothing else."""

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "ansible" / "plugins" / "filter" / "image_digest.py"
SPEC = importlib.util.spec_from_file_location("image_digest", PLUGIN)
assert SPEC
assert SPEC.loader
PLUGIN_MODULE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PLUGIN_MODULE)
image_digest = PLUGIN_MODULE.FilterModule().filters()["image_digest"]


def inspected(*layers: str, **other: object) -> str:
    return json.dumps([{"RootFS": {"Type": "layers", "Layers": list(layers)}, **other}])


def test_the_same_layers_are_the_same_image_whatever_its_engine_calls_it() -> None:
    assert image_digest(inspected("sha256:aa", "sha256:bb", Id="1")) == image_digest(
        inspected("sha256:aa", "sha256:bb", Id="2", RepoTags=["other:tag"])
    )


@pytest.mark.parametrize("others", [("sha256:aa",), ("sha256:bb", "sha256:aa"), ("sha256:aa", "sha256:cc")])
def test_other_layers_are_another_image(others: tuple[str, ...]) -> None:
    assert image_digest(inspected(*others)) != image_digest(inspected("sha256:aa", "sha256:bb"))


def test_it_reads_as_every_digest_does() -> None:
    assert image_digest(inspected("sha256:aa", "sha256:bb")) == (
        f"sha256:{hashlib.sha256(b'sha256:aa sha256:bb').hexdigest()}"
    )
