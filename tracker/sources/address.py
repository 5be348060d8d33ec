"""Network addresses: what may be shown of them, and whether they are any."""

import re
from urllib.parse import urlsplit

__all__ = ["host_of", "masked"]

_ADDRESS = re.compile(r"(?is)([a-z][a-z0-9+.-]*://+|(?:rtsps?|https?|igtl|rtmps?|srt|ftp):/*)(.*)")
# Up to the last @ before the path; beyond the path's start where a password with a slash in it was
# not escaped, which is seen by the missing port number.
_USER = re.compile(r"(?s)(?!\[)(?:[^/?#]*@|[^/?#:@]*:(?!\d+[/?#]).*@)")
_VALUE = re.compile(r"=[^/;&]*")
_QUERY_VALUE = re.compile(r"([?#&;])([^?#&;=]*=)?[^?#&;]+")


def masked(url: str) -> str:
    """Hide what may be a secret in an address, for every place where it is shown or written.

    That is who logs in, the whole query but its names, and values in the path: senders call
    passwords by many names. What is no address comes back as it is.
    """
    address = _ADDRESS.fullmatch(url)
    if address is None:
        return url
    scheme, rest = address.groups()
    user = _USER.match(rest)
    rest = rest[user.end() :] if user else rest
    begin = min((rest.index(mark) for mark in "?#" if mark in rest), default=len(rest))
    shown = _VALUE.sub("=***", rest[:begin]) + _QUERY_VALUE.sub(r"\1\2***", rest[begin:])
    return f"{scheme}***@{shown}" if user else scheme + shown


def host_of(url: str) -> str | None:
    """Take the host's name out of an address; None if it is none."""
    try:
        parts = urlsplit(url)
        fit = parts.port != 0 and not re.search(r"\s", url)
    except ValueError:  # a port that is no number, or an unfinished IPv6 address
        return None
    return parts.hostname if fit else None
