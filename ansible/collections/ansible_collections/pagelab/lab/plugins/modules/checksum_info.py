#!/usr/bin/python
"""checksum_info: says what experiments on this host run, by its checksums; the standard library is enough for it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: checksum_info
short_description: Say what experiments on this host run, by its checksums
description:
  - Reads the binaries of builds anew and compares them with what they were when these were compiled.
  - An image is the sha256 of its layers' checksums, because its id is another with every engine that holds it.
options:
  builds: {type: dict, required: true, description: "Directories with bin/ and build.json, by name."}
  image: {type: str, required: true, description: The name of the image.}
  client: {type: list, elements: str, required: true, description: The command that asks the container engine.}
author: pagelab
"""

RETURN = r"""
builds_sha256: {type: dict, returned: always, description: "By build, of the names and checksums of all its binaries."}
image_sha256: {type: str, returned: always, description: Of the checksums of the image's layers.}
damaged: {type: dict, returned: always, description: "By build, binaries that are not what was compiled."}
"""


def sha256_of(path: Path) -> str:
    """The checksum of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


def sums_of(build: Path) -> dict[str, str]:
    """The checksums of the binaries as they are on the disk, by name, as `bin/llama-cli`."""
    files = (path for path in sorted((build / "bin").rglob("*")) if path.is_file() and not path.is_symlink())
    return {path.relative_to(build).as_posix(): sha256_of(path) for path in files}


def compiled(build: Path) -> dict[str, str]:
    """What they were when they were compiled."""
    return json.loads((build / "build.json").read_text(encoding="utf-8"))["files"]


def damaged(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """The names that are not the same in both."""
    return sorted(name for name in set(found) | set(wanted) if found.get(name) != wanted.get(name))


def together(words: list[str]) -> str:
    """One checksum for all."""
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def layers_of(module: AnsibleModule, client: list[str], image: str) -> list[str]:
    """The checksums of an image's layers."""
    command = [*client, "image", "inspect", "--format", "{{json .RootFS.Layers}}", image]
    return json.loads(module.run_command(command, check_rc=True)[1])


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "builds": {"type": "dict", "required": True},
            "image": {"type": "str", "required": True},
            "client": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    found, wrong = {}, {}
    for name, directory in given["builds"].items():
        build = Path(directory)
        try:
            found[name] = sums_of(build)
            wrong[name] = damaged(found[name], compiled(build))
        except (OSError, ValueError, KeyError) as error:
            module.fail_json(msg=f"{build} cannot be read ({error}): remove it and provision again")
    module.exit_json(
        changed=False,
        builds_sha256={
            build: together([word for name in sorted(sums) for word in (name, sums[name])])
            for build, sums in found.items()
        },
        image_sha256=together(layers_of(module, given["client"], given["image"])),
        damaged={build: names for build, names in wrong.items() if names},
    )


if __name__ == "__main__":
    main()
