"""Real files of others, in and out: PLUS sequences as SimpleITK reads them, pydicom's own cine."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels.utils import pixel_array

from tests.tracker.export_scene import export, read, recorded, since_first_ns, stacked

SEQUENCES = ("BoneUltrasound_L14", "NwirePhantomFreehand", "USTC_FrameGrabber_ProbeTranslationData")


def by_simpleitk(path: Path) -> tuple[NDArray[Any], dict[str, str], tuple[float, ...]]:
    """Pixels as stored, fields and spacing, as another program reads them."""
    itk = pytest.importorskip("SimpleITK", reason="to compare: pip install SimpleITK")
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.LoadPrivateTagsOn()
    image = reader.Execute()
    fields = {key: reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}
    return itk.GetArrayFromImage(image), fields, image.GetSpacing()


def stamps_s(fields: dict[str, str]) -> list[float]:
    found = {
        int(match[1]): float(text)
        for name, text in fields.items()
        if (match := re.fullmatch(r"Seq_Frame(\d+)_Timestamp", name))
    }
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_real_sequence_is_read_as_simpleitk_reads_it(recordings: Path, name: str) -> None:
    path = recordings / "replay" / f"{name}.igs.mha"
    stored, fields, spacing = by_simpleitk(path)
    frames, info = read(path)
    rows_first = fields["UltrasoundImageOrientation"][:2]
    upright = {"MF": stored, "MN": stored[:, ::-1]}[rows_first]
    assert_array_equal(stacked(frames), upright)
    seconds = np.array(stamps_s(fields))
    assert_array_equal(since_first_ns(frames), np.rint((seconds - seconds[0]) * 1e9))
    assert spacing[:2] == (1, 1)  # a placeholder
    assert info.spacing_mm is None


@pytest.mark.parametrize("ending", [".igs.mha", ".nrrd"])
def test_a_real_sequence_comes_out_as_it_went_in(
    recordings: Path, tmp_path: Path, ending: str
) -> None:
    frames = read(recordings / "replay" / f"{SEQUENCES[0]}.igs.mha")[0][:8]
    to = tmp_path / f"a{ending}"
    assert export(recorded(tmp_path / "run", frames), "--to", to, "--full", "--compress") == 0
    again, info = read(to)
    assert_array_equal(stacked(again), stacked(frames))
    assert since_first_ns(again) == since_first_ns(frames)
    assert (info.spacing_mm, info.frame_count) == (None, len(frames))


def test_pydicom_s_cine_is_read_as_pydicom_reads_it() -> None:
    path = get_testdata_file("examples_ybr_color.dcm", download=False)
    assert isinstance(path, str)
    data = dcmread(path)
    frames, info = read(Path(path))
    assert info.frame_count == len(frames) == data.NumberOfFrames == 30
    luma = pixel_array(data, raw=True)[..., 0]
    assert np.abs(stacked(frames).astype(int) - luma).max() <= 1
    assert since_first_ns(frames)[1] == round(float(data.FrameTime) * 1e6)
    # Its regions are those of 640x480, and its pictures were halved since: they say no spacing.
    corners = [region.RegionLocationMaxX1 for region in data.SequenceOfUltrasoundRegions]
    assert max(corners) > data.Columns
    assert info.spacing_mm is None
