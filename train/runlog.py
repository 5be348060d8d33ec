"""The table of a run, one row for each epoch, which a run that is resumed goes on with."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["EpochTable", "say_duration"]


class EpochTable:
    """A CSV file of figures; the first column is the epoch, from 1.

    It is never seen without its last whole row: rows are added in one write, and a run that is
    resumed drops what a killed one left unfinished.

    Parameters
    ----------
    path : Path
        The file; its folder is made.
    columns : sequence of str
        All after the epoch.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self._columns = ("epoch", *columns)

    def begin(self, epoch: int) -> None:
        """Keep the rows of the epochs before this one, and no others."""
        kept = [row for row in self._read() if int(row["epoch"]) < epoch]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        header = dict(zip(self._columns, self._columns, strict=True))
        part = self.path.with_name(f"{self.path.name}.part")
        part.write_text("".join(map(self._line, [header, *kept])))
        part.replace(self.path)

    def add(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Add the row of an epoch; a figure that is not a number stays empty."""
        row = {name: _text(figures[name]) for name in self._columns[1:]}
        with self.path.open("a") as file:
            file.write(self._line({"epoch": str(epoch)} | row))

    def _read(self) -> list[dict[str, str]]:
        try:
            text = self.path.read_text(errors="replace")
        except FileNotFoundError:
            return []
        whole = text[: text.rfind("\n") + 1]
        reader = csv.DictReader(io.StringIO(whole))
        if tuple(reader.fieldnames or ()) != self._columns:
            return []
        return [row for row in reader if row["epoch"].isdecimal() and None not in row.values()]

    def _line(self, row: Mapping[str, str]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerow(row)
        return text.getvalue()


def _text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def say_duration(seconds: float) -> str:
    """Say a duration as people do: 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
