"""The exception tree.

::

    TdtrackError
    ├── DataError        a data set, annotation or image cannot be used as it is
    ├── StoreError       an embedding store is damaged or belongs to other data or another teacher
    ├── ConfigError      a setting is unknown or out of range
    ├── WeightsError     a checkpoint does not fit the architecture
    ├── ShapeError       arrays or tensors do not fit together
    ├── MediaError       a video, stream or image folder cannot be read
    ├── OutputError      a result cannot be written
    │   └── BusyError    another process is writing it
    └── MissingExtraError  an optional dependency is not installed

A message says what is wrong with which value, where, and what mends it, in one sentence.
"""


class TdtrackError(Exception):
    """Base of every error that tdtrack raises on purpose."""


class DataError(TdtrackError):
    """A data set, annotation or image cannot be used as it is."""


class StoreError(TdtrackError):
    """An embedding store is damaged, incomplete, or belongs to other data or another teacher."""


class ConfigError(TdtrackError):
    """A setting is unknown, of the wrong type or out of range."""


class WeightsError(TdtrackError):
    """A checkpoint does not fit the architecture it is loaded into."""


class ShapeError(TdtrackError):
    """Arrays or tensors do not fit together."""


class MediaError(TdtrackError):
    """A video, stream or image folder cannot be read."""


class OutputError(TdtrackError):
    """A result cannot be written where it was asked for."""


class BusyError(OutputError):
    """Another process is writing the same result."""


class MissingExtraError(TdtrackError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        """Say what to install.

        Args:
            package: name of the missing distribution.
            extra: the tdtrack extra that brings it.
            purpose: what needs it, as the subject of a sentence.
        """
        super().__init__(package, extra, purpose)  # what another process makes it from anew

    def __str__(self) -> str:
        """Return the sentence."""
        package, extra, purpose = self.args
        return f"{purpose} needs {package}, which is not installed; run: pip install 'tdtrack[{extra}]'"
