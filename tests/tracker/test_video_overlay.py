"""The annotated video says what its lines mean, how long a mm is, and where vessels were."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from tests.tracker.test_overlay_trails import SHAPE, moved, result_of, track_at
from veintrack.tracker.frame import U8
from veintrack.tracker.overlay import draw
from veintrack.tracker.overlay_trails import Trails
from veintrack.tracker.sinks.video import VideoSink


def pictures(path: Path) -> list[U8]:
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="bgr24") for frame in video.decode(video=0)]


def test_legend_scale_and_trails_are_in_the_video(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "o.mp4")
    results = [result_of(i, track_at(100 + 2 * i)) for i in range(40)]
    results = [
        replace(one, frame=replace(one.frame, spacing_mm=(0.1, 0.1)), scan_area_px=(0, 0, 640, 480))
        for one in results
    ]
    for result in results:
        sink.write(result)
    sink.close()
    last = pictures(tmp_path / "o.mp4")[-1].astype(int)
    full = draw(results[-1], trails=moved(Trails(), 40), legend=True)
    bare = draw(results[-1])
    assert last.shape == (*SHAPE, 3)
    foot, trail = (slice(430, None), slice(None)), (slice(97, 104), slice(120, 160))
    for name, part in (("foot", foot), ("trail", trail)):
        with_it = np.abs(last[part] - full[part]).mean()
        without = np.abs(last[part] - bare[part]).mean()
        assert with_it < 0.8 * without, name
