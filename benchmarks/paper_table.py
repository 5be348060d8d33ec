"""The paper's comparison of three networks, on data of your own.

    python benchmarks/paper_table.py --data DIR --label vessel=2 --groups FILE --work DIR

Qin et al. 2022 train ten epochs on 300 frames, judge on 200, and report the pixel accuracy of a
ResNet34-UNet against that of FCN and DeepLab v3+. Here all three are trained from random weights,
with the paper's recipe and with this project's own, through the same code as ``veintrack train``.

Every seed is a split of its own, with weights and order of its own, so the spread over seeds is
also that over the data. The three networks share the split of a seed: compare them in pairs. As in
the paper 60 % of the frames are trained on; 10 % choose the epoch and the threshold, 30 % judge.

Each run has a folder in --work and a process of its own. What is finished is not trained again, and
what was cut off goes on: after Ctrl-C, give the same command. The scores are those of
``veintrack evaluate segmentation``, in the frames' own pixels, of the exported model on the engine
that `auto` takes. The speed is that of segmenting one 640x480 frame, the networks in turns.
"""

import argparse
import ast
import json
import logging
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import product
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from paper_report import NAMES, RECIPE_NAMES, Run, make_rows, markdown, say

from veintrack._version import __version__
from veintrack.engines.base import Engine
from veintrack.errors import VeintrackError
from veintrack.tracker.cli.train import parse_labels
from veintrack.tracker.frame import U8
from veintrack.tracker.phantom import Phantom, demo_settings
from veintrack.tracker.segment import Segmenter, load_segmenter
from veintrack.train.batches import prepare_data
from veintrack.train.evaluation import Judging, check_label, find_labelled, score_files
from veintrack.train.fit import fit
from veintrack.train.formats import LabelChoice, LabelledFolder, open_folder
from veintrack.train.runfolder import MODEL_FILE
from veintrack.train.scores import FrameScores
from veintrack.train.settings import TrainSettings
from veintrack.train.summary import summarise

RECIPES: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 10, "augment": "paper", "phantom": 0},
    "ours": {"epochs": 40, "augment": "ultrasound", "phantom": 0},
}
# Where and how a run was computed is no part of what it learned.
_FREE = {
    "output", "data", "groups", "data_sets", "resume", "overwrite", "workers", "tensorboard",
    "accelerator", "devices", "num_nodes", "strategy", "precision",
}  # fmt: skip
_CALLS, _TURNS = 20, 7
_PATIENCE_S = 5.0

Plans = dict[tuple[str, str, int], TrainSettings]
"""Settings by recipe, network and seed."""


def plan(options: argparse.Namespace) -> Plans:
    """Say what is trained: settings for each recipe, network and seed; a seed's split comes first.

    Raises
    ------
    ValueError
        If an option is none of `TrainSettings`, or its value is refused.
    """
    runs = {}
    for seed, recipe, arch in product(options.seeds, options.recipes, NAMES):
        values = RECIPES[recipe] | {"size_px": options.size} | parse_options(options.options)
        if recipe == "ours":
            values |= parse_options(options.ours_options)
        if options.epochs is not None:
            values["epochs"] = options.epochs
        fixed = {
            "data": options.data,
            "output": options.work / f"{recipe}-{arch}-{seed}",
            "labels": parse_labels([options.label]),
            "groups": options.groups,
            "val_fraction": options.val,
            "test_fraction": options.test,
            "arch": arch,
            "seed": seed,
        }
        if taken := sorted(fixed.keys() & values.keys()):
            raise ValueError(f"{taken[0]} is not free to choose: it is what is compared")
        try:
            runs[recipe, arch, seed] = TrainSettings(**fixed, **values)
        except TypeError as error:
            raise ValueError(f"no such option of TrainSettings: {error}") from error
    return runs


def parse_options(texts: Iterable[str]) -> dict[str, Any]:
    """Read ``lr=1e-3`` and its like as fields of `TrainSettings`."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"an option must be NAME=VALUE such as lr=1e-3, got {text!r}")
        try:
            values[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            values[name] = value
    return values


def is_finished(settings: TrainSettings) -> bool:
    """Whether the run of these settings is complete: the model file is what is written last.

    Raises
    ------
    ValueError
        If the folder holds a run with other settings.
    """
    stored = settings.output / "settings.json"
    if not stored.is_file():
        return False
    if changed := settings.changes_from(json.loads(stored.read_text()), _FREE):
        raise ValueError(
            f"{settings.output} holds a run with other settings ({'; '.join(changed)}): "
            "name another --work, or remove it"
        )
    return (settings.output / MODEL_FILE).is_file()


def check(todo: Sequence[TrainSettings]) -> None:
    """Read and split the data of each seed: what is wrong with it should not take a day to show.

    Raises
    ------
    ValueError, VeintrackError
        If it cannot be trained on, or not judged.
    """
    for settings in todo[:1]:
        check_label(_labelled(settings), LabelChoice(settings.labels, settings.ignore))
    for settings in {settings.seed: settings for settings in todo}.values():
        prepare_data(settings)


def train(settings: TrainSettings) -> None:
    """Train one network in a process of its own, which gives its memory back.

    Raises
    ------
    SystemExit
        If that process fails; it says itself why.
    """
    goes_on = (settings.output / "checkpoints" / "last.ckpt").is_file()
    settings = replace(settings, resume=goes_on, overwrite=not goes_on)
    process = get_context("spawn").Process(target=_train_here, args=(settings,))
    process.start()
    try:
        process.join()
    except KeyboardInterrupt:
        _stop(process)
        raise
    if process.exitcode:
        raise SystemExit(f"{settings.output}: training failed; the same command tries again")


def _train_here(settings: TrainSettings) -> None:
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("veintrack.train").setLevel(logging.INFO)
    fit(settings)


def _stop(process: SpawnProcess) -> None:
    """Let a run end that the same Ctrl-C has reached, and end it otherwise."""
    process.join(_PATIENCE_S)
    for end in (process.terminate, process.kill):
        if process.is_alive():
            end()
            process.join(2 * _PATIENCE_S)


def judge(key: tuple[str, str, int], settings: TrainSettings) -> Run:
    """Score a finished run on its test part, as ``veintrack evaluate segmentation`` does."""
    split = settings.output / "split.json"
    folder, choice = _labelled(settings, split), LabelChoice(settings.labels, settings.ignore)
    with _open(settings) as segmenter:
        judging = Judging(choice=choice, classes=folder.classes, threshold=segmenter.threshold)
        frames, _ = score_files(segmenter, folder.frames, judging)
    stored = json.loads((settings.output / "settings.json").read_text())
    scores = scores_of(frames)
    nothing = scores.pop("nothing")
    return Run(
        *key,
        parameters=stored["parameters"],
        multiply_adds=stored["multiply_adds"],
        trained_in=stored["precision"],
        train_frames=len(json.loads(split.read_text())["train"]),
        test_frames=len(frames),
        unmarked=sum(frame.vessels > 0 and frame.hd95_px is None for frame in frames),
        nothing=float(nothing or 0),
        scores=scores,
    )


def _labelled(settings: TrainSettings, split: Path | None = None) -> LabelledFolder:
    data_sets = settings.data_sets()
    if len(data_sets) != 1:
        raise ValueError(f"networks are compared on one data set, got {len(data_sets)}")
    folder = open_folder(data_sets[0].folder, data_sets[0].format)
    return find_labelled(folder, split, "test")[0]


def _open(settings: TrainSettings) -> Segmenter:
    return load_segmenter(str(settings.output / MODEL_FILE))


def scores_of(frames: Sequence[FrameScores]) -> dict[str, float | None]:
    """Sum up frames: a value for each of `COLUMNS`, and what marking nothing would reach."""
    summary = summarise(frames, replicates=1)  # its intervals are not used
    pooled, mean = summary.pooled, summary.mean
    found = {
        **{name: pooled[name] for name in ("pixel_accuracy", "dice", "iou", "precision", "recall")},
        "dice_of_frames": mean["dice"],
        "hd95_px": mean["hd95_px"],
        "vessels_detected": summary.vessels["detection_rate"],
        "nothing": pooled["marking_nothing_accuracy"],
    }
    return {name: None if score is None else score.value for name, score in found.items()}


def measure_fps(segmenters: Mapping[str, Segmenter], pixels: U8) -> dict[str, float]:
    """Time segmenters in turns on one frame; medians over the turns, in frames a second."""
    times_s: dict[str, list[float]] = {name: [] for name in segmenters}
    for _ in range(1 + _TURNS):
        for name, segmenter in segmenters.items():
            begun = time.perf_counter()
            for _ in range(_CALLS):
                segmenter(pixels)
            times_s[name].append((time.perf_counter() - begun) / _CALLS)
    # The first turn warms up.
    return {name: round(1 / statistics.median(times[1:]), 1) for name, times in times_s.items()}


def report(plans: Plans, options: argparse.Namespace) -> None:
    """Judge what is finished; print the table, and write it where it is wanted."""
    finished = {key: settings for key, settings in plans.items() if is_finished(settings)}
    if not finished:
        raise ValueError(f"{options.work} holds no finished run")
    runs = [judge(key, settings) for key, settings in finished.items()]
    one_each = {arch: settings for (_, arch, _), settings in finished.items()}
    with ExitStack() as stack:
        opened = {a: stack.enter_context(_open(settings)) for a, settings in one_each.items()}
        fps = measure_fps(opened, Phantom(demo_settings()).render(0).pixels)
        machine = _machine(next(iter(opened.values())).engine)
    rows, said = make_rows(runs, fps), say(runs)
    said.append(
        "fps: one 640x480 frame to its probability map, {engine} in {precision} on {cores} core(s) "
        "of {device}, the networks in turns.".format(**machine)
    )
    if missing := [settings.output.name for key, settings in plans.items() if key not in finished]:
        said.append(f"Not finished: {', '.join(missing)}.")
    text = markdown(rows, said)
    print(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        record = {
            "machine": machine,
            "command": shlex.join(["python", "benchmarks/paper_table.py", *sys.argv[1:]]),
            "data": options.data.resolve().name,
            "recipes": {recipe: _recipe(settings) for (recipe, _, _), settings in plans.items()},
            "fps": fps,
            "runs": [asdict(run) for run in runs],
            "summary": [asdict(row) for row in rows],
            "findings": said,
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")


def _recipe(settings: TrainSettings) -> dict[str, Any]:
    varied = {*_FREE, "arch", "seed"}
    return {name: value for name, value in settings.to_json().items() if name not in varied}


def _machine(engine: Engine) -> dict[str, Any]:
    return {
        "device": engine.device,
        "cores": len(os.sched_getaffinity(0)),
        "engine": engine.name,
        "precision": engine.precision,
        "python": platform.python_version(),
        "veintrack": __version__,
    }


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="as for veintrack train")
    parser.add_argument(
        "--label", default="vessel=1", help="the vessel, and what the data calls it"
    )
    parser.add_argument("--groups", help="what must not be divided, as for veintrack train")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs' folders")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", choices=RECIPE_NAMES, default=RECIPE_NAMES)
    parser.add_argument("--val", type=float, default=0.1)
    parser.add_argument("--test", type=float, default=0.3)
    parser.add_argument("--size", type=int, default=256, help="of the networks' grid, in px")
    parser.add_argument("--epochs", type=int, help="of every recipe, instead of its own")
    for name, which in (("--options", "both recipes"), ("--ours-options", "the recipe 'ours'")):
        parser.add_argument(
            name,
            nargs="+",
            default=[],
            metavar="NAME=VALUE",
            help=f"other settings of {which}: fields of veintrack.train.settings.TrainSettings",
        )
    parser.add_argument("--only-report", action="store_true", help="train nothing")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


def main() -> None:
    """Train what is not trained yet, and make the table."""
    options = read_options()
    os.environ["VEINTRACK_CACHE"] = str(options.work / "engines")  # not the user's own
    try:
        plans = plan(options)
        todo = [settings for settings in plans.values() if not is_finished(settings)]
        if options.only_report:
            todo = []
        check(todo)
        for number, settings in enumerate(todo, 1):
            print(f"{number}/{len(todo)}: {settings.output}", file=sys.stderr, flush=True)
            train(settings)
        report(plans, options)
    except (ValueError, VeintrackError) as error:
        raise SystemExit(f"paper_table: {error}") from error
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
