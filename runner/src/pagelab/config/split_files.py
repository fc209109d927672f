"""The names of the files of a model that is split into several, as llama.cpp makes them (llama_split_path)."""

import re

_PART_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


def part_names(name: str, count: int) -> list[str] | None:
    """The names of all `count` parts in order, from that of any of them; None where it is no such name."""
    match = _PART_NAME.fullmatch(name)
    if match is None or int(match["count"]) != count or not 1 <= int(match["number"]) <= count:
        return None
    return [f"{match['stem']}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]
