"""What is seen now: the picture, its tracks, their plots, and what may be asked for."""

from collections.abc import Callable
from typing import Any

from nicegui import events, ui

from veintrack.tracker.web.desk import Desk
from veintrack.tracker.web.messages import News, TrackRow
from veintrack.tracker.web.plots import colour_of
from veintrack.tracker.web.state import covered, state_of

__all__ = ["LivePanel"]

_SLOW_MS = 200.0  # full scale of the gauge of the age


# The colour of the track, as on the picture.
_STRIPE = "row => `border-left: 0.6em solid ${row.colour}`"


def _column(name: str, label: str, digits: int | None = None) -> dict[str, Any]:
    column = {"name": name, "label": label, "field": name, "sortable": True, "align": "right"}
    if digits is not None:
        column[":format"] = f"value => value === null ? '-' : value.toFixed({digits})"
    return column


def _columns(unit: str) -> list[dict[str, Any]]:
    return [
        {**_column("id", "Vein"), "align": "left", ":style": _STRIPE},
        {**_column("status", "State"), "align": "left"},
        _column("diameter", f"Diameter {unit}", 1),
        _column("depth", f"Depth {unit}", 1),
        _column("area", f"Area {unit}²", 1),
        _column("collapse", "Collapse", 2),
        _column("pulse_hz", "Pulse Hz", 2),
        _column("likeness", "Vein-like", 2),
    ]


class LivePanel:
    """The live part of one visitor's page.

    Parameters
    ----------
    desk : Desk
        What is known of the run.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._said = desk.news.control.said if desk.news else ""
        self._threshold: float | None = None
        self._unit = "mm"
        self._rows: list[dict[str, Any]] = []
        self._drawn: list[dict[str, Any]] = []
        self._switches: dict[str, ui.switch] = {}

    def build(self) -> None:
        """Lay it out."""
        with ui.element("div").classes("vt-two"):
            with ui.element("div").classes("vt-stack"):
                with ui.element("div").classes("vt-screen"):
                    ui.element("canvas").props(
                        'id=vt-picture role=img aria-label="Ultrasound picture with outlined veins"'
                    )
                    self._over = ui.label("Waiting for the first frame").classes("vt-over")
                self._build_controls()
            with ui.element("div").classes("vt-stack"):
                self._build_state()
                self._table = ui.table(columns=_columns(self._unit), rows=[], row_key="id").props(
                    'dense flat bordered aria-label="Tracks" no-data-label="No vein yet"'
                )
                self._table.classes("vt-table").style("width: 100%; max-height: 45vh")
                with ui.element("div").classes("vt-plots"):
                    self._charts = [
                        ui.echart(options).classes("vt-plot") for options in self._desk.plots()
                    ]

    def _build_state(self) -> None:
        with ui.element("div").classes("vt-line"):
            self._state = ui.badge("waiting").props("role=status aria-live=polite")
            self._state.style("font-size: 0.95rem; padding: 0.3rem 0.6rem")
            self._why = ui.label("").classes("vt-grow")
            ui.label(self._desk.setting.source).classes("vt-small")
        with ui.element("div").classes("vt-gauges"):
            self._fps = _Gauge("Frames a second", "")
            self._age = _Gauge("Latency", f"Latency, bar to {_SLOW_MS:.0f} ms")
            self._drops = _Gauge("Dropped", "Part of the frames that were dropped")

    def _build_controls(self) -> None:
        desk = self._desk
        with ui.element("div").classes("vt-line"):
            self._record = _button("Record", "fiber_manual_record", self._toggle_record, "R")
            _button("Snapshot", "photo_camera", lambda: desk.ask("snapshot"), "S")
            self._pause = _button("Pause", "pause", self._toggle_pause, "P")
            self._step = _button("Step", "skip_next", lambda: desk.ask("step"), ".")
        with ui.element("div").classes("vt-line"):
            ui.label("Threshold").props("id=vt-threshold")
            self._slider = ui.slider(min=0.05, max=0.95, step=0.01, value=0.5)
            self._slider.props("label aria-labelledby=vt-threshold").classes("vt-grow")
            self._slider.on("change", self._look_from)
            self._number = ui.label("").style("font-variant-numeric: tabular-nums")
            for name, text in (("tracks", "Tracks"), ("trails", "Trails"), ("legend", "Legend")):
                self._switches[name] = ui.switch(
                    text,
                    value=getattr(desk.view, name),
                    on_change=lambda event, name=name: self._draw_with(name, bool(event.value)),
                )
        ui.keyboard(on_key=self._key)

    def _draw_with(self, name: str, on: bool) -> None:
        if on is not getattr(self._desk.view, name):  # else somebody else asked for it
            self._desk.draw_with(**{name: on})

    def _toggle_record(self) -> None:
        if self._desk.news:
            self._desk.ask("record", not self._desk.news.control.recording)

    def _toggle_pause(self) -> None:
        if self._desk.news:
            self._desk.ask("pause", not self._desk.news.control.paused)

    def _look_from(self, event: events.GenericEventArguments) -> None:
        if isinstance(event.args, (int, float)):
            self._desk.ask("threshold", float(event.args))

    def _key(self, event: events.KeyEventArguments) -> None:
        if not event.action.keydown or event.action.repeat or event.modifiers:
            return
        deeds: dict[str, Callable[[], None]] = {
            "r": self._toggle_record,
            "s": lambda: self._desk.ask("snapshot"),
            "p": self._toggle_pause,  # the space bar presses what has the focus
            ".": lambda: self._desk.ask("step"),
        }
        if event.key.name in deeds:
            deeds[event.key.name]()

    def refresh(self) -> None:
        """Show what is new."""
        news = self._desk.news
        if news is None:
            return
        self._show_state(news)
        self._show_controls(news)
        unit = "mm" if news.millimetres else "px"
        if unit != self._unit:
            self._unit = unit
            self._table.columns = _columns(unit)
        rows = [_as_row(row) for row in news.rows]
        if rows != self._rows:
            self._rows = rows
            self._table.rows = rows

    def plot(self) -> None:
        """Draw the plots anew, if there is something new."""
        drawn = self._desk.plots()
        if drawn is not self._drawn:
            self._drawn = drawn
            for chart, options in zip(self._charts, drawn, strict=True):
                chart.options.clear()
                chart.options.update(options)
                chart.update()

    def _show_state(self, news: News) -> None:
        word, colour, why = state_of(news)
        self._state.set_text(word)
        self._state.props(f"color={colour}")
        self._why.set_text(why)
        over = covered(news)
        self._over.set_text(over)
        self._over.set_visibility(bool(over))
        f = news.figures
        self._fps.show(f"{f.fps:.1f}", None, "")
        self._age.show(
            f"{f.age_ms:.0f} ms", f.age_ms / _SLOW_MS, f"95 % below {f.age_p95_ms:.0f} ms"
        )
        part = (f.drops + f.too_old) / max(1, f.frames + f.drops)
        late = f", {f.too_old} too old" if f.too_old else ""
        self._drops.show(str(f.drops), part, f"{part:.1%} of all{late}")

    def _show_controls(self, news: News) -> None:
        control = news.control
        self._record.set_text("Stop recording" if control.recording else "Record")
        self._record.props(
            f"color={'negative' if control.recording else 'primary'} "
            f"aria-pressed={str(control.recording).lower()}"
        )
        self._pause.set_visibility(not control.live)
        self._pause.set_text("Go on" if control.paused else "Pause")
        self._step.set_visibility(not control.live)
        self._step.set_enabled(control.paused)
        self._slider.set_enabled(not control.recording)
        if control.threshold != self._threshold:  # somebody set it; not while it is dragged
            self._threshold = control.threshold
            self._slider.set_value(round(control.threshold, 2))
            self._number.set_text(f"{control.threshold:.2f}")
        for name, switch in self._switches.items():
            switch.set_value(getattr(self._desk.view, name))
        if control.said != self._said:
            self._said = control.said
            if control.said:
                ui.notify(control.said, position="top")


class _Gauge:
    """A number with its name, and a bar where it has a scale."""

    def __init__(self, name: str, scale: str) -> None:
        with ui.element("div").classes("vt-gauge"):
            ui.label(name).classes("vt-small")
            self._text = ui.label("-").classes("vt-value")
            self._bar = ui.linear_progress(0, show_value=False).props(f'aria-label="{scale}"')
            self._more = ui.label("").classes("vt-small")

    def show(self, text: str, part: float | None, more: str) -> None:
        """Show a value, which part of the scale it is, and what else is to be said."""
        self._text.set_text(text)
        self._more.set_text(more)
        self._bar.set_visibility(part is not None)
        self._bar.set_value(round(min(1.0, max(0.0, part or 0.0)), 2))


def _button(text: str, icon: str, act: Any, key: str) -> ui.button:
    with ui.button(text, icon=icon, on_click=act).props('no-caps padding="6px 12px"') as button:
        ui.tooltip(f"Key: {key}")
    return button


def _as_row(row: TrackRow) -> dict[str, Any]:
    def short(value: float | None, digits: int) -> float | None:
        return None if value is None else round(value, digits)

    return {
        "id": row.id,
        "status": row.status,
        "diameter": short(row.diameter, 1),
        "depth": short(row.depth, 1),
        "area": short(row.area, 1),
        "collapse": short(row.collapse, 2),
        "pulse_hz": short(row.pulse_hz, 2),
        "likeness": short(row.likeness, 2),
        "colour": colour_of(row.id),
    }
