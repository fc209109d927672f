"""Where everything is on this host, and to whom results belong."""

from dataclasses import dataclass
from pathlib import Path

from pagelab.store.files import Owner


@dataclass(frozen=True)
class Lab:
    """The directories that an experiment uses, and what its results say of where it ran."""

    builds_directory: Path
    models_directory: Path
    results_directory: Path
    state_directory: Path
    host: str = "localhost"
    image_digest: str | None = None
    owner: Owner | None = None
