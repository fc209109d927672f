"""The one error that the virtual lab raises."""


class VirtualLabError(Exception):
    """Something that the user can put right; the message is one sentence that says how."""
