"""Sizes that are typed as options."""

from pagelab.errors import ConfigError, shown


def size_option(name: str, text: str) -> int:
    """The bytes of an option such as `--ram 8GiB`.

    Raises:
        ConfigError: it is no size.
    """
    from pagelab.units import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise ConfigError(f"{name} {shown(text, 40)}: {error}") from error
