"""Noise settings found again from detections whose noise is known."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.tracker.tracks_scene import DT_S, detections, wandering, write_run
from veintrack.errors import SourceUnreadableError
from veintrack.tracker.config import make_config
from veintrack.tracker.scoring.fit import Fit, fit_noise
from veintrack.tracker.scoring.replay import read_settings, see
from veintrack.tracker.tracksettings import TrackSettings

PSD = 800.0


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """Noise of 1.5 px said to be 0.75, and an error of 1 px that each object keeps."""
    folder = tmp_path_factory.mktemp("fit")
    truth = wandering(16, 150, PSD)
    write_run(folder, detections(truth, 1.5, 0.75, bias_px=1.0))
    return fit_noise(folder, truth, near_px=15)


def test_the_noise_is_found_again(fitted: Fit) -> None:
    assert fitted.after.accel_psd_px2_s3 == pytest.approx(PSD, rel=0.35)
    assert fitted.after.noise_scale == pytest.approx(4, rel=0.15)
    after = fitted.after
    assert after.bias_px**2 + (30 * after.bias_axes) ** 2 == pytest.approx(1, rel=0.6)
    assert fitted.sightings == 16 * 150
    assert fitted.left_out == 0


def test_stated_uncertainty_comes_true_and_likelihood_grows(fitted: Fit) -> None:
    assert fitted.gain > 0.2
    assert fitted.coverage_before < 0.85
    assert fitted.coverage_after == pytest.approx(0.95, abs=0.02)
    assert fitted.nis_before > 4
    assert fitted.nis_after == pytest.approx(2, abs=0.15)
    assert fitted.rmse_after_px <= fitted.rmse_before_px * 1.01


def test_the_fragment_is_taken_by_the_configuration(fitted: Fit) -> None:
    config = make_config({"source": "demo"}, yaml.safe_load(fitted.as_yaml()))
    assert config.track.noise_scale == pytest.approx(fitted.after.noise_scale, rel=0.01)
    assert config.track.bias_px == pytest.approx(fitted.after.bias_px, rel=0.01)


def test_accelerations_are_scaled_to_the_reference(tmp_path: Path) -> None:
    truth = wandering(4, 80, PSD)
    write_run(tmp_path, detections(truth, 1.0, 1.0))
    plain = fit_noise(tmp_path, truth, near_px=15).after
    reference_mm = TrackSettings().reference_mm
    fine = fit_noise(tmp_path, truth, near_px=15, spacing_mm=(reference_mm / 2,) * 2).after
    # A pixel of the reference is two of this picture, and holds four of its px².
    assert fine.accel_psd_px2_s3 == pytest.approx(plain.accel_psd_px2_s3 / 4, rel=0.1)
    assert fine.noise_scale == pytest.approx(plain.noise_scale, rel=0.1)


def test_the_motion_of_the_picture_is_none_of_the_objects(tmp_path: Path) -> None:
    still = wandering(6, 100, 40.0)
    slide = 60 * np.sin(2 * np.pi * 0.5 * still.time_s)
    truth = replace(still, box_px=None, xy_px=still.xy_px + np.stack([slide, 0 * slide], axis=1))
    write_run(tmp_path, detections(truth, 0.5, 0.5))
    # These objects are as lively within the picture as any, and keep their velocity there.
    made_so = {"configuration": {"track": {"own_part": 1.0, "own_s": 100.0}}}
    (tmp_path / "run.json").write_text(json.dumps(made_so))
    blind = fit_noise(tmp_path, truth, near_px=15).after
    path = tmp_path / "tracks.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    shifts = np.diff(slide[still.id == 1], prepend=slide[0])
    for line, shift in zip(lines, shifts.tolist(), strict=True):
        line["probe_motion"] = {"shift_px": [shift, 0.0], "noise_px2": 1e-4}
    path.write_text("\n".join(map(json.dumps, lines)))
    told = fit_noise(tmp_path, truth, near_px=15).after
    assert told.accel_psd_px2_s3 == pytest.approx(40, rel=0.8)
    assert blind.accel_psd_px2_s3 > 10 * told.accel_psd_px2_s3


def test_detections_of_two_objects_and_far_ones_are_left_out(tmp_path: Path) -> None:
    truth = wandering(2, 30, 1e-6)
    truth.xy_px[truth.id == 2] = truth.xy_px[truth.id == 1] + [12.0, 0.0]
    write_run(tmp_path, detections(truth, 0.1, 0.1))
    assert see(tmp_path, truth, 15).left_out == 60  # each box holds both
    apart = wandering(2, 30, 1e-6)
    far = list(detections(apart, 0.5, 0.5))
    far[7][1][0].centroid_px[:] += 8
    write_run(tmp_path, iter(far))
    assert see(tmp_path, apart, 15).left_out == 1


def test_the_runs_own_settings_are_where_it_starts(tmp_path: Path) -> None:
    record = {"configuration": {"track": {"noise_scale": 2.5, "unheard_of": 1}}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert read_settings(tmp_path).noise_scale == 2.5
    assert read_settings(tmp_path / "tracks.jsonl").noise_scale == 2.5
    assert read_settings(tmp_path / "elsewhere" / "tracks.jsonl") == TrackSettings()


def test_what_cannot_be_fitted_to_is_said(tmp_path: Path) -> None:
    truth = wandering(1, 20, PSD)
    write_run(tmp_path, detections(truth, 1.0, 1.0))
    with pytest.raises(SourceUnreadableError, match="has 7 detections of known objects.* least 50"):
        fit_noise(tmp_path, truth, near_px=15)
    with pytest.raises(SourceUnreadableError, match=r"holds no detections: --fit needs tracks\.js"):
        fit_noise(tmp_path / "tracks.csv", truth, near_px=15)
    lines = tmp_path / "t.jsonl"
    lines.write_text(json.dumps({"frame": 0, "time_s": 0.0, "tracks": []}))
    with pytest.raises(
        SourceUnreadableError, match="line 1 must have frame, time_s and detections"
    ):
        fit_noise(lines, truth, near_px=15)
    lines.write_text(json.dumps({"frame": 0, "time_s": 0.0, "detections": [{"centroid_px": [1]}]}))
    with pytest.raises(SourceUnreadableError, match="each detection must have centroid_px, covar"):
        fit_noise(lines, truth, near_px=15)


def test_covariances_and_motions_that_cannot_be_are_refused(tmp_path: Path) -> None:
    truth = wandering(1, 80, PSD)
    write_run(tmp_path, detections(truth, 1.0, 1.0))
    path = tmp_path / "tracks.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for cov in ([0, 0, 0, 0], [-1, 0, 0, 1], [1, 2, 2, 1], [math.nan, 0, 0, 1], None):
        lines[7]["detections"][0]["covariance_px2"] = cov
        path.write_text("\n".join(map(json.dumps, lines)))
        with pytest.raises(SourceUnreadableError, match=r"covariance_px2 \(positive definite\)"):
            fit_noise(tmp_path, truth, near_px=15)
    for shift, noise in (([math.nan, 0], 1), ([0, 0], -1)):
        lines[3]["probe_motion"] = {"shift_px": shift, "noise_px2": noise}
        path.write_text("\n".join(map(json.dumps, lines)))
        with pytest.raises(SourceUnreadableError, match="line 4 must have frame, time_s and det"):
            fit_noise(tmp_path, truth, near_px=15)


def test_what_the_detections_do_not_tell_is_said(tmp_path: Path, fitted: Fit) -> None:
    truth = wandering(2, 80, 1e-6)
    write_run(tmp_path, detections(truth, 0.0, 1.0))
    words = fit_noise(tmp_path, truth, near_px=15).in_words()
    assert "do not tell accel_psd_px2_s3, noise_scale" in words[-1]
    assert not any("do not tell" in line for line in fitted.in_words())


def test_the_scene_is_the_process_that_it_says() -> None:
    truth = wandering(400, 3, PSD)
    x = truth.xy_px.reshape(3, 400, 2)
    # Second differences of an integrated random walk have the variance 2/3 q dt³.
    bend = x[2] - 2 * x[1] + x[0]
    assert np.var(bend) == pytest.approx(2 / 3 * PSD * DT_S**3, rel=0.15)
