"""The page as a whole: its frame, its tabs, its looks."""

from nicegui import Client, ui

from veintrack.tracker.overlay import NOTICE
from veintrack.tracker.web.desk import Desk
from veintrack.tracker.web.live import LivePanel
from veintrack.tracker.web.review import ReviewPanel
from veintrack.tracker.web.shelf import Reviews
from veintrack.tracker.web.token import Gate

__all__ = ["build"]

_TICK_S, _PLOTS_S = 0.25, 0.5
_LIVE, _KEPT = "Live", "Recordings"
_STYLE = """
body { font-size: 15px; }
.nicegui-content { padding: 0.75rem; gap: 0.75rem; width: 100%; max-width: 1800px; margin: auto; }
.vt-two { display: grid; width: 100%; gap: 0.75rem; align-items: start;
  grid-template-columns: minmax(0, 4fr) minmax(0, 3fr); }
.vt-plots { display: grid; width: 100%; gap: 0.5rem;
  grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); }
.vt-plot { width: 100%; height: 190px; }
.vt-table th, .vt-table td { padding: 4px 6px !important; }
.vt-table th { white-space: normal; vertical-align: bottom !important; }
.vt-stack { display: flex; flex-direction: column; gap: 0.75rem; min-width: 0; }
.vt-line { display: flex; flex-wrap: wrap; gap: 0.5rem 0.75rem; align-items: center; width: 100%; }
.vt-grow { flex: 1 1 12rem; }
.vt-gauges { display: grid; gap: 0.75rem; width: 100%;
  grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); }
.vt-gauge { display: flex; flex-direction: column; gap: 0.2rem; }
.vt-value { font-size: 1.4rem; font-variant-numeric: tabular-nums; line-height: 1.2; }
.vt-small { font-size: 0.85rem; opacity: 0.8; }
.vt-screen { position: relative; background: #000; border-radius: 6px; overflow: hidden;
  min-height: 12rem; display: grid; place-items: center; width: 100%; }
.vt-screen canvas, .vt-screen img { display: block; max-width: 100%; max-height: 70vh;
  margin: auto; }
.vt-screen canvas { width: 100%; object-fit: contain; }
.vt-over { position: absolute; inset: auto 0 0 0; padding: 0.5rem 0.75rem; color: #fff;
  background: rgba(0, 0, 0, 0.65); }
.q-tab-panels { background: transparent; }
.q-footer { padding: 0.3rem; background: #444; }
.vt-notice { width: 100%; text-align: center; font-weight: 600; color: #fff; }
#vt-cut { display: none; padding: 0.5rem 1rem; background: #b00020; color: #fff; font-weight: 600; }
body.vt-cut #vt-cut { display: block; }
:focus-visible { outline: 3px solid #e69f00 !important; outline-offset: 2px; }
@media (max-width: 1000px) { .vt-two { grid-template-columns: minmax(0, 1fr); } }
"""
# Shows each picture when the screen is ready for it, and only then asks for another. Headings of
# the table, which sort it, can be reached and pressed by keyboard.
_SCRIPT = """
<script>
(() => {
  const answer = (socket) => { if (socket.readyState === WebSocket.OPEN) socket.send('shown'); };
  const paint = (picture, socket) => {
    const canvas = document.getElementById('vt-picture');
    if (!canvas) { setTimeout(() => paint(picture, socket), 200); return; }
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      canvas.width = picture.width;
      canvas.height = picture.height;
    }
    canvas.getContext('2d').drawImage(picture, 0, 0);
    canvas.dataset.shown = Number(canvas.dataset.shown || 0) + 1;
    picture.close();
    answer(socket);
  };
  const look = () => {
    const socket = new WebSocket(location.origin.replace('http', 'ws') + '/pictures');
    socket.binaryType = 'blob';
    socket.onopen = () => document.body.classList.remove('vt-cut');
    socket.onmessage = async (event) => {
      const picture = await createImageBitmap(event.data);
      requestAnimationFrame(() => paint(picture, socket));
    };
    socket.onclose = () => {
      document.body.classList.add('vt-cut');
      setTimeout(look, 1000);
    };
  };
  look();
  setInterval(() => document.querySelectorAll('th.sortable:not([tabindex])').forEach(
    (head) => { head.tabIndex = 0; }), 500);
  document.addEventListener('keydown', (event) => {
    const head = event.target.closest('th.sortable');
    if (head && (event.key === 'Enter' || event.key === ' ')) {
      event.preventDefault();
      head.click();
    }
  });
})();
</script>
"""
_CUT = "No connection: the run has ended, or the network failed. What is shown is not of now."


def build(desk: Desk, reviews: Reviews, gate: Gate) -> None:
    """Describe the page, to be made anew for each visit."""

    @ui.page("/")
    def page(client: Client) -> None:
        ui.add_css(_STYLE)
        ui.add_body_html(_SCRIPT)
        panel = LivePanel(desk)
        shelf = ReviewPanel(desk, reviews, client)
        tabs = _header(gate)
        with ui.tab_panels(tabs, value=_LIVE).props("keep-alive").style("width: 100%"):
            with ui.tab_panel(_LIVE).style("padding: 0"):
                panel.build()
            with ui.tab_panel(_KEPT).style("padding: 0"):
                shelf.build()
        with ui.footer().props("bordered"):
            ui.label(NOTICE).classes("vt-notice").props("role=note")
        ui.timer(_TICK_S, panel.refresh)
        ui.timer(_PLOTS_S, lambda: panel.plot() if tabs.value == _LIVE else None)
        ui.timer(1.0, lambda: shelf.refresh(seen=tabs.value == _KEPT))


def _header(gate: Gate) -> ui.tabs:
    """Lay out the top line; gives the tabs."""
    dark = ui.dark_mode(None)
    ui.html(_CUT).props("id=vt-cut role=alert")
    with ui.element("header").classes("vt-line"):
        ui.label("veintrack").style("font-size: 1.3rem; font-weight: 700")
        with ui.tabs().props('inline-label no-caps dense aria-label="Views"') as tabs:
            ui.tab(_LIVE, icon="sensors")
            ui.tab(_KEPT, icon="video_library")
        ui.space()
        if gate.asks_token:
            ui.button("Another browser", icon="devices", on_click=lambda: _invite(gate)).props(
                "flat dense no-caps"
            )
        looks = {None: "Auto", False: "Light", True: "Dark"}
        ui.toggle(looks, value=None, on_change=lambda e: dark.set_value(e.value)).props(
            'dense no-caps aria-label="Light or dark"'
        )
    return tabs


async def _invite(gate: Gate) -> None:
    """Show an address that is good for one more browser."""
    base = await ui.run_javascript("location.origin")
    with ui.dialog(value=True), ui.card():
        ui.label("This address lets one more browser in, once:")
        ui.input(value=f"{base}/?token={gate.invite()}").props("readonly outlined").style(
            "width: min(80vw, 40rem)"
        )
        ui.label("Whoever has it sees the picture and may record.").classes("vt-small")
