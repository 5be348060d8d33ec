"""The version, in one place: setuptools, the package and every written run read it here."""

__version__ = "0.1.0"
