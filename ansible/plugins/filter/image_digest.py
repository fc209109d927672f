"""image_digest: what is in an image, as one sha256.

    {{ (inspected.stdout | image_digest) }}

Of the layers' checksums, because an image's id is another with every engine that holds it.
"""

import hashlib
import json
from collections.abc import Callable


def image_digest(inspected: str) -> str:
    """The digest of the first image in what `docker image inspect` prints, as `sha256:…`."""
    layers: list[str] = json.loads(inspected)[0]["RootFS"]["Layers"]
    return f"sha256:{hashlib.sha256(' '.join(layers).encode()).hexdigest()}"


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[[str], str]]:
        """The one filter."""
        return {"image_digest": image_digest}
