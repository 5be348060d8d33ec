"""How the source is, in words."""

from time import monotonic_ns

from veintrack.tracker.frame import PictureState, Signal
from veintrack.tracker.web.messages import News

__all__ = ["covered", "state_of"]

_GOOD, _ODD, _BAD, _NEITHER = "positive", "warning", "negative", "grey-7"
_PICTURES = {
    PictureState.FROZEN: "the same picture comes again and again",
    PictureState.NO_SIGNAL: "there is no picture at the input",
    PictureState.NO_CONTACT: "the probe touches nothing",
}


def state_of(news: News, now_ns: int | None = None) -> tuple[str, str, str]:
    """Say how the source is.

    Parameters
    ----------
    news : News
        Of the run.
    now_ns : int, optional
        ``time.monotonic_ns``, if not now.

    Returns
    -------
    tuple of str
        A word, the name of its colour, and the reason, empty where all is well.
    """
    source = news.source
    if source.signal is not Signal.STREAMING:
        since_s = ((monotonic_ns() if now_ns is None else now_ns) - source.since_ns) * 1e-9
        word = "lost" if source.signal is Signal.LOST else "stalled"
        return word, _BAD, f"for {since_s:.0f} s: {source.reason}"
    if news.control.paused:
        return "paused", _NEITHER, "the run stands still"
    if not news.time_ns:
        return "waiting", _NEITHER, "for the first frame"
    if news.picture_state is not PictureState.GOOD:
        return news.picture_state.value, _ODD, _PICTURES[news.picture_state]
    return ("live" if news.control.live else "playing"), _GOOD, ""


def covered(news: News) -> str:
    """Say why there is no picture; empty where there is one."""
    if not news.time_ns:
        return "Waiting for the first frame."
    if not news.settled:
        return "The scan area is looked for. Nothing is shown before it is known."
    return ""
