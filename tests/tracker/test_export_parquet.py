"""Tracks as Parquet: the same numbers as in the table, with types."""

import csv
import json
from pathlib import Path

import pytest

from tests.tracker.export_scene import export, tracked

parquet = pytest.importorskip(
    "pyarrow.parquet", reason='pyarrow is not installed: pip install "veintrack[parquet]"'
)


@pytest.fixture
def run_folder(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tracked(model_file, monkeypatch)


def test_rows_are_those_of_the_table_and_empty_fields_are_null(run_folder: Path) -> None:
    assert export(run_folder, "--to", "a.parquet") == 0
    table = parquet.read_table("a.parquet")
    rows = list(csv.DictReader((run_folder / "tracks.csv").read_text().splitlines()))
    assert table.column_names == list(rows[0])
    assert len(rows) == table.num_rows > 20
    for row, kept in zip(rows, table.to_pylist(), strict=True):
        for name, text in row.items():
            value = kept[name]
            assert (value is None) == (text == "")
            assert value is None or (value == text if name == "status" else value == float(text))
    assert str(table.schema.field("frame").type) == "int64"


def test_what_made_the_tracks_is_kept_and_where_the_source_lay_is_not(run_folder: Path) -> None:
    record = json.loads((run_folder / "run.json").read_text())
    record["source"]["name"] = "/scans/Sommer^Ada.mp4"
    (run_folder / "run.json").write_text(json.dumps(record))
    assert export(run_folder, "--to", "a.parquet") == 0
    facts = json.loads(parquet.read_schema("a.parquet").metadata[b"veintrack"])
    assert facts["model_sha256"] == record["model"]["sha256"]
    assert facts["notice"].startswith("Research use only")
    assert b"Sommer" not in Path("a.parquet").read_bytes()


def test_a_row_that_was_being_written_is_left_out(run_folder: Path) -> None:
    path = run_folder / "tracks.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert export(run_folder, "--to", "a.parquet") == 0
    assert parquet.read_table("a.parquet").num_rows == whole.count(b"\n") - 2


def test_a_table_that_is_damaged_is_named(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_folder / "tracks.csv"
    path.write_text(path.read_text() + "1,2,3\n")
    assert export(run_folder, "--to", "a.parquet") == 2
    assert "tracks.csv is damaged" in capsys.readouterr().err
    assert not Path("a.parquet").exists()
