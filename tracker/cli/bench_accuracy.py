"""How right each engine is, to stand beside how fast it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veintrack.engines.model import read_model_info, resolve_model
from veintrack.tracker.frame import F32

if TYPE_CHECKING:  # imported on use: the command line starts without them
    from veintrack.engines.parity import Answer
    from veintrack.tracker.cli.bench_parts import Wish
    from veintrack.tracker.segment import Segmenter
    from veintrack.train.formats import LabelChoice, LabelledFolder

__all__ = ["Truth", "agree"]

_LABEL = "vessel=1"


def agree(segmenters: "Sequence[Segmenter]", model: str) -> list[dict[str, Any]]:
    """Hold each engine's masks against those of ONNX Runtime in FP32, as the main job does.

    Parameters
    ----------
    segmenters : sequence of Segmenter
        Of one model, and with nothing in work.
    model : str
        The model's name or path.

    Returns
    -------
    list of dict
        Of each: ``fp32_dice`` of the segmented class, pixels of all pictures pooled;
        ``fp32_centroid_shift_px``, the largest, in px of the network's grid; vessels gained and
        lost; how many pictures; and ``refused``, why the main job would not take it, or nothing.
    """
    from veintrack.engines.base import infer
    from veintrack.engines.parity import compare
    from veintrack.tracker.segment import load_segmenter
    from veintrack.tracker.typical import judging_pictures

    def answer(segmenter: "Segmenter") -> "Answer":
        number = segmenter.model.classes.index(segmenter.class_name)
        return lambda frame: infer(segmenter.engine, frame)[:, [number]]

    pictures = judging_pictures(segmenters[0].input_shape).make()
    name = segmenters[0].class_name
    with load_segmenter(
        model, engine="onnxruntime", precision="fp32", class_name=name, limits=None
    ) as reference:
        expected: list[F32] = [answer(reference)(picture) for picture in pictures]
    found = []
    for segmenter in segmenters:
        parity = compare(
            _in_turn(expected), answer(segmenter), pictures, threshold=segmenter.threshold
        )
        found.append(
            {
                "fp32_dice": round(parity.dice[0], 5),
                "fp32_centroid_shift_px": round(parity.centroid_shift_px, 4),
                "fp32_gained": parity.gained,
                "fp32_lost": parity.lost,
                "fp32_pictures": parity.frames,
                "refused": "" if parity.passes() else parity.reason(),
            }
        )
    return found


def _in_turn(answers: Sequence[F32]) -> "Answer":
    """Give the answers that were computed once, one by one."""
    left = iter(answers)
    return lambda _: next(left)


@dataclass(frozen=True, slots=True)
class Truth:
    """Labelled frames to score an engine on.

    Attributes
    ----------
    folder : LabelledFolder
        The frames.
    choice : LabelChoice
        What they call the vessel.
    class_name : str or None
        The model's class that the label is named after, if it is.
    """

    folder: "LabelledFolder"
    choice: "LabelChoice"
    class_name: str | None

    @classmethod
    def find(cls, wish: "Wish") -> "Truth | None":
        """Find the labelled frames that were named, and read all of them once.

        Raises
        ------
        VeintrackError, ValueError
            As ``veintrack evaluate segmentation`` does.
        """
        from veintrack.tracker.cli.train import parse_labels
        from veintrack.train.evaluation import check_label, find_labelled
        from veintrack.train.formats import LabelChoice, open_folder

        if wish.data is None:
            return None
        choice = LabelChoice(parse_labels([wish.label or _LABEL]))
        path = Path(wish.data)
        split = Path(wish.split) if wish.split else None
        folder, _ = find_labelled(open_folder(path), split, "test", path.resolve().name)
        check_label(folder, choice)
        (name,) = choice.labels
        classes = read_model_info(resolve_model(wish.model)).classes
        return cls(folder, choice, name if name in classes else None)

    def score(self, segmenter: "Segmenter") -> dict[str, Any]:
        """Score an engine: ``truth_dice``, pixels of all frames pooled, and how many frames."""
        from veintrack.train.evaluation import Judging, score_files

        judging = Judging(
            choice=self.choice, classes=self.folder.classes, threshold=segmenter.threshold
        )
        scores, _ = score_files(segmenter, self.folder.frames, judging)
        right = 2 * sum(one.tp for one in scores)
        wrong = sum(one.fp + one.fn for one in scores)
        return {"truth_dice": round(right / (right + wrong), 5), "truth_frames": len(scores)}
