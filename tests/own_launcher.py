"""A launcher of the tests' own: the files of the role in a directory of the test, with a configuration of the test."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILES = Path(__file__).parents[1] / "ansible" / "roles" / "launcher" / "files"


@dataclass(frozen=True)
class OwnLauncher:
    """A lab that has a launcher and no models."""

    lab: Path
    environment: Mapping[str, str]

    def __call__(self, *arguments: str | bytes | Path, cwd: Path | str = "/tmp") -> subprocess.CompletedProcess[str]:  # noqa: S108
        """Type a command."""
        return subprocess.run(
            [str(self.lab / "bin" / "pagelab"), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd,
            check=False,
            env={**os.environ, **self.environment},
        )


def make_launcher(lab: Path, *, socket: Path, image: str, **environment: str) -> OwnLauncher:
    """Install it."""
    for name in ("models", "state", "llama.cpp"):
        (lab / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(FILES, lab / "bin")
    (lab / "bin" / "pagelab").chmod(0o755)
    values = {
        "lab": str(lab),
        "host": "localhost",
        "socket": str(socket),
        "image": image,
        "image_digest": "sha256:0",
        "memlock": "",
    }
    (lab / "bin" / "pagelab.conf").write_text(
        "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    )
    return OwnLauncher(lab, environment)
