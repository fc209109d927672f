"""The collection pagelab.lab of this checkout, made importable in the way that Ansible itself does it."""

from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

init_plugin_loader([str(Path(__file__).parents[1] / "ansible" / "collections")])

from ansible_collections.pagelab.lab.plugins.filter import checksums  # noqa: E402
from ansible_collections.pagelab.lab.plugins.modules import (  # noqa: E402
    checksum_info,
    experiment_runs,
    model_info,
    swapfile,
)
from ansible_collections.pagelab.lab.plugins.plugin_utils import (  # noqa: E402
    collecting,
    launcher,
    names,
    outcome,
    remote,
    transfer,
)

__all__ = [
    "checksum_info",
    "checksums",
    "collecting",
    "experiment_runs",
    "launcher",
    "model_info",
    "names",
    "outcome",
    "remote",
    "swapfile",
    "transfer",
]
