"""The version of affetto."""

__version__ = "0.1.0"
