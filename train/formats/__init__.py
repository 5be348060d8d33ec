"""Labelled frames as laboratories have them: one :func:`open_folder` for every format."""

from veintrack.train.formats.base import (
    FORMATS,
    LabelledFolder,
    LabelledFrame,
    Problem,
    Truth,
)
from veintrack.train.formats.choice import LabelChoice, read_truth, values_of
from veintrack.train.formats.detect import open_folder
from veintrack.train.formats.folders import pair_folders
from veintrack.train.formats.pictures import read_image
from veintrack.train.formats.survey import ClassSurvey, Survey, describe, survey

__all__ = [
    "FORMATS",
    "ClassSurvey",
    "LabelChoice",
    "LabelledFolder",
    "LabelledFrame",
    "Problem",
    "Survey",
    "Truth",
    "describe",
    "open_folder",
    "pair_folders",
    "read_image",
    "read_truth",
    "survey",
    "values_of",
]
