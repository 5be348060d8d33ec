"""The page's own process: serves the page until the run hangs up.

Started by :mod:`veintrack.tracker.sinks.web`, with the numbers of an open listening socket and of a
pipe to the run.
"""

import os
import socket
import sys
from multiprocessing.connection import Connection
from typing import Any

import cv2

from veintrack.tracker.web.desk import Desk
from veintrack.tracker.web.messages import Ask, News, Picture, Setting
from veintrack.tracker.web.token import Gate, Guard

__all__ = ["main", "serve"]

_NICE = 5  # where the processor is short, tracking goes first


def main() -> None:
    """Serve; the arguments are the numbers of the socket and of the pipe."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    pipe: Connection[Any, Any] = Connection(int(sys.argv[2]))
    setting: Setting = pipe.recv()
    try:
        serve(listening, pipe, setting)
    except Exception as error:  # whatever a library met: the run says it
        line = " ".join(str(error).split())
        pipe.send(("failed", f"{type(error).__name__}: {line}"))


def serve(
    listening: socket.socket, pipe: "Connection[Ask, News | Picture]", setting: Setting
) -> None:
    """Serve the page on a socket that listens already."""
    import uvicorn
    from fastapi import FastAPI, Response, WebSocket
    from nicegui import app as gui
    from nicegui import ui

    from veintrack.tracker.web.pages import build
    from veintrack.tracker.web.pictures import show
    from veintrack.tracker.web.shelf import Reviews

    os.nice(_NICE)
    cv2.setNumThreads(1)  # the other processors are the tracking's
    gate = Gate(setting.hosts, setting.port, setting.token)
    desk, reviews = Desk(pipe, setting), Reviews()
    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @api.websocket("/pictures")
    async def pictures(viewer: WebSocket) -> None:
        await viewer.accept()
        with desk.looked_at():
            await show(desk.pictures, viewer)

    @api.get("/review/{key}/{position}")
    def frame(key: str, position: int) -> Response:
        picture = reviews.picture(key, position)
        if picture is None:
            return Response(status_code=404)
        return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    build(desk, reviews, gate)
    gui.on_startup(desk.begin)
    ui.run_with(api, title="veintrack", dark=None, language="en-GB", show_welcome_message=False)
    config = uvicorn.Config(
        Guard(api, gate),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws_per_message_deflate=False,  # JPEGs do not shrink
        lifespan="on",
    )
    pipe.send(("ready", None))
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
