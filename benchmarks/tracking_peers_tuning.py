"""Tune the peers of `tracking.py` on its own scenarios: the comparison must not be with straw men.

    python benchmarks/tracking_peers_tuning.py --seeds 0 --masks corrupted

From the settings in `tracking_peers.py`, each setting in turn takes the value of its grid with the
highest mean HOTA over all scenarios, twice over. The grids hold the libraries' own defaults. What
is found is printed. `TUNED` in `tracking_peers.py` is set to it by hand, but for Stone Soup: of
settings that do about as well, those with which it swaps less were picked.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from platformdirs import user_cache_path
from rich.console import Console
from tracking_moments import MASKS, Run, prepare
from tracking_peers import TUNED, make, missing
from tracking_scenarios import SCENARIOS, scenario
from tracking_scores import play

_LOST_S = (0.33, 1.0, 2.0, 3.0)
_CONFIRM_S = (0.08, 0.12, 0.2, 0.3)
_IOU = (0.05, 0.1, 0.3)

GRIDS: Mapping[str, Mapping[str, Sequence[float]]] = {
    "norfair": {
        "reach_mm": (3.0, 5.0, 8.0, 12.0),
        "lost_s": _LOST_S,
        "confirm_s": _CONFIRM_S,
        "noise_px2": (0.25, 1.0, 4.0),
    },
    "SORT": {
        "minimum_iou_threshold": _IOU,
        "lost_s": _LOST_S,
        "confirm_s": _CONFIRM_S,
        "track_activation_threshold": (0.25, 0.5, 0.75),
    },
    "ByteTrack": {
        "minimum_iou_threshold": _IOU,
        "lost_s": _LOST_S,
        "confirm_s": _CONFIRM_S,
        "track_activation_threshold": (0.5, 0.7, 0.8),
        "high_conf_det_threshold": (0.5, 0.6, 0.75),
    },
    "OC-SORT": {
        "minimum_iou_threshold": _IOU,
        "lost_s": _LOST_S,
        "confirm_s": _CONFIRM_S,
        "high_conf_det_threshold": (0.4, 0.6, 0.75),
        "direction_consistency_weight": (0.0, 0.2),
    },
    "Stone Soup": {
        "noise_px2": (4.0, 16.0, 50.0, 100.0),
        "accel_psd_px2_s3": (3e3, 1e4, 3e4, 1e5, 3e5),
        "gate": (3.0, 4.0, 6.0),
        "lost_s": _LOST_S,
        "confirm_s": _CONFIRM_S,
    },
}


def tune(name: str, runs: Sequence[Run], rounds: int = 2) -> tuple[dict[str, float], float]:
    """Find the settings of one contestant; say the mean HOTA that they reach."""
    tried: dict[str, float] = {}

    def reached(settings: Mapping[str, float]) -> float:
        key = json.dumps(settings, sort_keys=True)
        if key not in tried:
            tried[key] = fmean(play(make(name, **settings), run).hota for run in runs)
        return tried[key]

    best = dict(TUNED[name])
    for _ in range(rounds):
        for setting, values in GRIDS[name].items():
            # What has no value so far has the library's own.
            candidates = [best, *({**best, setting: value} for value in values)]
            best = max(candidates, key=reached)
    return best, reached(best)


def main() -> None:
    """Tune all that are installed, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--contestants", nargs="+", choices=GRIDS, default=list(GRIDS))
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--masks", nargs="+", choices=MASKS, default=["corrupted"])
    parser.add_argument(
        "--cache", type=Path, default=user_cache_path("veintrack") / "tracking-scenarios"
    )
    options = parser.parse_args()
    if absent := missing():
        raise SystemExit(f"not installed: {', '.join(absent)}")
    runs = [
        prepare(scenario(name, seed), seed, masks, options.cache)
        for name in options.scenarios
        for seed in options.seeds
        for masks in options.masks
    ]
    say = Console(width=150)
    for name in options.contestants:
        before = fmean(play(make(name), run).hota for run in runs)
        settings, hota = tune(name, runs)
        say.print(f"{name}: HOTA {before:.4f} -> {hota:.4f} with {settings}")


if __name__ == "__main__":
    main()
