"""Which format a file's name asks for, and what writes it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from veintrack.errors import BackendMissingError

__all__ = ["FORMATS", "Format", "Request", "format_of"]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be written.

    Attributes
    ----------
    run : Path
        Folder of a run, or of a recording.
    to : Path
        The file.
    compress : bool
        Pack the pixels (zlib).
    full : bool
        Hand on whole frames, whatever is written on them, where these were recorded.
    source_dicom : Path or None
        The DICOM image that the tracks belong to.
    """

    run: Path
    to: Path
    compress: bool = False
    full: bool = False
    source_dicom: Path | None = None

    @property
    def pixel_file(self) -> Path | None:
        """The file beside `to` that holds the pixels, where they are not in it."""
        if self.to.suffix.lower() != ".mhd":
            return None
        return self.to.with_suffix(".zraw" if self.compress else ".raw")

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are written."""
        return (self.to,) if self.pixel_file is None else (self.to, self.pixel_file)


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is written.

    Attributes
    ----------
    endings : tuple of str
        What names of such files end in, in lower case.
    module : str
        Has ``write(request)``, which says in words what it wrote; imported on use.
    takes : tuple of str
        Options of a request that mean something to it.
    extra : str
        What is to be installed for it beside the core; empty for nothing.
    """

    endings: tuple[str, ...]
    module: str
    takes: tuple[str, ...] = ()
    extra: str = ""

    def write(self, request: Request) -> str:
        """Write it, whole or not at all.

        Returns
        -------
        str
            What was written, in words.

        Raises
        ------
        ValueError
            If the request has options that mean nothing to it, or lacks one.
        BackendMissingError
            If a library that it needs is not installed.
        OutputError
            If the file cannot be written.
        SourceNotFoundError, SourceUnreadableError
            If what it is made of is not there, or cannot be read.
        """
        for option in ("compress", "full", "source_dicom"):
            if getattr(request, option) and option not in self.takes:
                means = ", ".join(e for f in FORMATS if option in f.takes for e in f.endings)
                flag = option.replace("_", "-")
                raise ValueError(f"--{flag} means nothing for {self.endings[0]}: it is for {means}")
        try:
            writer: Callable[[Request], str] = import_module(self.module).write
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("veintrack"):
                raise
            raise BackendMissingError(
                f'{self.endings[0]} needs {error.name}: pip install "veintrack[{self.extra}]"'
            ) from error
        return writer(request)


_HERE = "veintrack.tracker.exports"
FORMATS = (
    Format((".mha", ".mhd"), f"{_HERE}.metaimage", ("compress", "full")),
    Format((".nrrd",), f"{_HERE}.nrrd", ("compress", "full")),
    Format((".parquet",), f"{_HERE}.parquet", extra="parquet"),
    Format((".us.dcm",), f"{_HERE}.dicom_image", ("full",)),
    Format((".sr.dcm",), f"{_HERE}.dicom_report", ("source_dicom",), extra="dicom"),
)
_OF_THE_RUN = (".csv", ".jsonl", ".txt", ".mp4")


def format_of(to: Path) -> Format:
    """Find the format that a file's name asks for.

    Raises
    ------
    ValueError
        If there is none.
    """
    name = to.name.lower()
    for one in FORMATS:
        if any(name.endswith(ending) and name != ending for ending in one.endings):
            return one
    known = ", ".join(ending for one in FORMATS for ending in one.endings)
    why = "; the run's folder has its tracks and video already" * name.endswith(_OF_THE_RUN)
    raise ValueError(f"--to must end in {known}, got {to.name}{why}")
