"""Names in the order that people expect."""

import re

__all__ = ["natural_key"]


def natural_key(name: str) -> list[str | int]:
    """Sort key under which ``frame2`` comes before ``frame10``."""
    # Text and numbers alternate, text first, so two keys always compare like with like.
    return [int(t) if t.isdecimal() else t.lower() for t in re.split(r"([0-9]+)", name)]
