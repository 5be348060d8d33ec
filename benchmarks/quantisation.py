"""Find which layers should stay out of INT8: accuracy and speed of a model in several forms.

    python benchmarks/quantisation.py --json quantisation.json

Each form is made with the pictures of ``veintrack build`` and opened in OpenVINO. Its answers are
held against ONNX Runtime in FP32 on stills of the phantom that were not used to make it, and on
frames of your own (``--frames``). Speed is the bare engine's with all its slots at work, as a ratio
to the first form, measured in turns.
"""

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from veintrack.engines.base import U8, Engine, infer, open_engine
from veintrack.engines.model import ModelInfo, read_model_info, resolve_model
from veintrack.engines.parity import Answer, Parity, compare
from veintrack.engines.quantise import quantise
from veintrack.tracker.bench import measure_bare
from veintrack.tracker.segment import channel_of
from veintrack.tracker.typical import calibration_pictures, pictures_of, still_pictures

FORMS = ((1, 0), (1, 2), (4, 2), (7, 2), (16, 2))  # layers that stay: first ones, last ones
STILLS = 60
ROUNDS, FRAMES, WARM_UP = 5, 150, 20


@dataclass(frozen=True, slots=True)
class Form:
    """A model as one engine computes it."""

    name: str
    engine: Engine
    size_bytes: int


def open_forms(model: ModelInfo, folder: Path) -> list[Form]:
    """Open the model in BF16, or FP32 where the processor has none, and in each INT8 form."""
    plain = open_engine(model, "openvino", slots=None)
    forms = [Form(plain.precision, plain, model.path.stat().st_size)]
    data = model.path.read_bytes()
    pictures = calibration_pictures(model.input_shape).make()
    for first, last in FORMS:
        path = folder / f"{first}-{last}.onnx"
        path.write_bytes(quantise(data, pictures, first=first, last=last))
        engine = open_engine(read_model_info(path), "openvino", slots=None)
        forms.append(Form(f"int8 but {first} + {last}", engine, path.stat().st_size))
    return forms


def judge(model: ModelInfo, engine: Engine, frames: list[U8]) -> Parity:
    """Hold the answers for the vessel's class against the reference's."""
    channel = channel_of(model)

    def of(engine: Engine) -> Answer:
        return lambda frame: infer(engine, frame)[:, channel : channel + 1]

    reference = open_engine(model, "onnxruntime")
    return compare(of(reference), of(engine), frames, threshold=model.threshold)


def speeds(forms: list[Form]) -> list[float]:
    """Measure the forms in turns; the median of the ratios to the first."""
    rounds = [
        [measure_bare(f.engine, FRAMES, WARM_UP)["fps"] for f in forms] for _ in range(ROUNDS)
    ]
    return [
        round(statistics.median(one[i] / one[0] for one in rounds), 2) for i in range(len(forms))
    ]


def main() -> None:
    """Make, judge and time the forms; print a table and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default="default", help="shipped name, or path of a model file")
    parser.add_argument("--frames", help="video, folder or glob of frames to judge on, too")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    model = read_model_info(resolve_model(arguments.model))
    frames = {"phantom": still_pictures(model.input_shape, range(STILLS))}
    if arguments.frames:
        pictures = pictures_of(arguments.frames, model.input_shape)
        frames[pictures.name] = list(pictures.make())
    with TemporaryDirectory() as folder:
        forms = open_forms(model, Path(folder))
        ratios = speeds(forms)
        rows = [
            {
                "form": form.name,
                "size_mb": round(form.size_bytes / 1e6, 1),
                "speed": ratio,
                **{
                    name: judge(model, form.engine, them).to_json() for name, them in frames.items()
                },
            }
            for form, ratio in zip(forms, ratios, strict=True)
        ]
    show(rows, list(frames))
    if arguments.json:
        arguments.json.write_text(json.dumps({"model": model.name, "rows": rows}, indent=2))


def show(rows: list[dict[str, Any]], names: list[str]) -> None:
    """Print the figures."""
    table = Table("form", "MB", "speed", *(f"{n}: {what}" for n in names for what in _HEADS))
    for row in rows:
        figures = [
            text
            for name in names
            for text in (
                f"{row[name]['dice'][0]:.4f}",
                f"{row[name]['centroid_shift_mean_px']:.2f}",
                f"{row[name]['centroid_shift_px']:.2f}",
                f"{row[name]['gained']} / {row[name]['lost']}",
            )
        ]
        table.add_row(row["form"], f"{row['size_mb']}", f"{row['speed']}", *figures)
    console = Console()
    console.width = max(console.width, 140)
    console.print(table)


_HEADS = ("Dice", "shift, mean px", "largest", "vessels gained / lost")


if __name__ == "__main__":
    main()
