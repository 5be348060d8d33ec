"""Network addresses: what may be shown of them, and whether they are any."""

import re
from urllib.parse import urlsplit

__all__ = ["host_of", "masked"]

_SECRETS = (
    # What follows "user:" up to the last @ before the path; beyond the path's start where a
    # password with a slash in it was not escaped, which is seen by the missing port number.
    (re.compile(r"(?<=://)([^/?#:@]*):(?:[^/?#]*|(?!\d+[/?#]).*)@"), r"\1:***@"),
    (re.compile(r"(?i)(pass\w*|pwd|token|secret|key|auth)=[^&/?#]*"), r"\1=***"),
)


def masked(url: str) -> str:
    """Hide the password in an address, for every place where it is shown or written.

    What is no address comes back as it is.
    """
    if "://" not in url:
        return url
    for secret, shown in _SECRETS:
        url = secret.sub(shown, url)
    return url


def host_of(url: str) -> str | None:
    """Take the host's name out of an address; None if it is none."""
    try:
        parts = urlsplit(url)
        fit = parts.port != 0 and not re.search(r"\s", url)
    except ValueError:  # a port that is no number, or an unfinished IPv6 address
        return None
    return parts.hostname if fit else None
