"""The recordings' part of the page: a list, and any frame of one with its tracks."""

from pathlib import Path

import numpy as np
from nicegui import Client, run, ui

from veintrack.errors import VeintrackError
from veintrack.tracker.review import Review
from veintrack.tracker.web.desk import Desk
from veintrack.tracker.web.shelf import Kept, Reviews, recordings_under

__all__ = ["ReviewPanel"]

_TICK_S = 0.1  # between two frames that are played


class ReviewPanel:
    """The recordings' part of one visitor's page.

    Parameters
    ----------
    desk : Desk
        What is known of the run.
    reviews : Reviews
        What is open, for all visitors.
    client : Client
        The visitor.
    """

    def __init__(self, desk: Desk, reviews: Reviews, client: Client) -> None:
        self._runs, self._reviews = Path(desk.setting.runs), reviews
        self._listed: list[Kept] = []
        self._key = ""
        self._review: Review | None = None
        self._gone = False
        client.on_delete(self._leave)

    def build(self) -> None:
        """Lay it out."""
        with ui.element("div").classes("vt-two"):
            with ui.element("div").classes("vt-stack"):
                self._title = ui.label("Choose a recording").style("font-weight: 600")
                with ui.element("div").classes("vt-screen"):
                    self._image = ui.element("img").props('alt="Recorded frame with its tracks"')
                self._build_controls()
            with ui.element("div").classes("vt-stack"):
                ui.label("Recordings").style("font-weight: 600")
                self._list = ui.element("div").classes("vt-stack")

    def _build_controls(self) -> None:
        with ui.element("div").classes("vt-line") as self._controls:
            for name, icon, by in (
                ("Frame back", "chevron_left", -1),
                ("Frame on", "chevron_right", 1),
            ):
                ui.button(icon=icon, on_click=lambda by=by: self._go_by(by)).props(
                    f'flat aria-label="{name}"'
                )
            self._play = ui.button(icon="play_arrow", on_click=self._toggle).props(
                'flat aria-label="Play"'
            )
            self._slider = ui.slider(min=0, max=1, step=1, value=0, on_change=self._show)
            self._slider.props('aria-label="Position in the recording"').classes("vt-grow")
            self._place = ui.label("").style("font-variant-numeric: tabular-nums")
        self._controls.set_visibility(False)
        self._timer = ui.timer(_TICK_S, self._advance, active=False)

    async def refresh(self, *, seen: bool) -> None:
        """List what is there, if the list is seen."""
        listed = await run.io_bound(recordings_under, self._runs) if seen else None
        if listed is None or [kept.name for kept in listed] == [kept.name for kept in self._listed]:
            return
        self._listed = listed
        self._list.clear()
        with self._list:
            for kept in listed:
                with ui.button(on_click=lambda kept=kept: self._open(kept)).props(
                    "no-caps outline align=left"
                ):
                    ui.label(f"{kept.name}  {kept.begun}  {kept.megabytes:.1f} MB")

    async def _open(self, kept: Kept) -> None:
        self._close()
        try:
            opened = await run.io_bound(self._reviews.open, kept.path)
        except VeintrackError as error:
            ui.notify(str(error), type="negative", position="top")
            return
        if opened is None:  # the server is over
            return
        if self._gone:
            self._reviews.close(opened[0])
            return
        self._key, self._review = opened
        self._title.set_text(kept.name)
        self._slider.props["max"] = max(1, self._review.count - 1)
        self._slider.update()
        self._slider.set_value(0)
        self._controls.set_visibility(True)
        self._show()

    def _leave(self) -> None:
        self._gone = True
        self._close()

    def _close(self) -> None:
        self._reviews.close(self._key)
        self._key, self._review = "", None

    @property
    def _position(self) -> int:
        return int(self._slider.value or 0)

    def _go_by(self, frames: int) -> None:
        if self._review is not None:
            at = min(self._review.count - 1, max(0, self._position + frames))
            self._slider.set_value(at)

    def _toggle(self) -> None:
        self._timer.active = not self._timer.active
        icon, name = ("pause", "Pause") if self._timer.active else ("play_arrow", "Play")
        self._play.props(f"icon={icon} aria-label={name}")

    def _advance(self) -> None:
        """Go to the frame that is due, as it was recorded."""
        if self._review is None:
            return
        time_s = self._review.time_s
        at = int(np.searchsorted(time_s, time_s[self._position] + _TICK_S * 0.999))
        if at >= self._review.count:
            self._toggle()
        self._slider.set_value(min(at, self._review.count - 1))

    def _show(self) -> None:
        if self._review is None:
            return
        at = self._position
        self._image.props(f"src=/review/{self._key}/{at}")
        self._place.set_text(
            f"{self._review.time_s[at]:.2f} s, frame {at + 1} of {self._review.count}"
        )
