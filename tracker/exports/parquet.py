"""Tracks as Parquet: the columns of ``tracks.csv`` with their types, and what made them."""

import json
from dataclasses import asdict

import pyarrow as pa
from pyarrow import csv, parquet

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.exports.formats import Request
from veintrack.tracker.exports.placing import placing
from veintrack.tracker.exports.record import read_facts, table_of
from veintrack.tracker.sinks.tables import CSV_COLUMNS

__all__ = ["write"]

_TYPES = {name: pa.float64() for name in CSV_COLUMNS.split(",")} | {
    "frame": pa.int64(),
    "track_id": pa.int64(),
    "status": pa.dictionary(pa.int32(), pa.string()),
}


def write(request: Request) -> str:
    """Write the tracks of a run; see :meth:`Format.write`.

    An empty field is null. The file's metadata hold what made the tracks, as JSON under the key
    ``veintrack``.
    """
    facts = asdict(read_facts(request.run))
    try:
        table = csv.read_csv(
            pa.BufferReader(table_of(request.run)),
            convert_options=csv.ConvertOptions(column_types=_TYPES),
        )
    except pa.ArrowInvalid as error:
        raise SourceUnreadableError(f"{request.run / 'tracks.csv'} is damaged: {error}") from error
    table = table.replace_schema_metadata({"veintrack": json.dumps(facts)})
    with placing(request.to) as partial:
        parquet.write_table(table, partial, compression="zstd")
    return f"{len(table)} rows of tracks"
