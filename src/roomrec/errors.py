"""Every error RoomRec raises on purpose, as one tree.

::

    RoomRecError
    ├── EventError               an event, or a file of events, cannot be read
    │   └── SourceError          a public log is missing a file or a column, or holds a value nobody can interpret
    ├── FeatureError             a feature, its specification and the data disagree
    │   └── VocabularyError      a vocabulary is broken, or is not the one a model was trained with
    ├── DatasetError             a processed dataset is missing, unfinished, empty or too small for the job
    ├── ConfigurationError       a setting is wrong; the message names the key and the closest valid one
    ├── TrainingError            training went wrong: the loss left the numbers, or does not fall
    ├── ExportError              a model cannot be exported within tolerance
    ├── BundleError              a bundle is incomplete, altered or incompatible
    │   └── RegistryError        a version or channel does not exist
    │       ├── RegistryConflictError      a channel is not where the caller believed
    │       └── RegistryUnavailableError   the registry's folder cannot be read or written now
    └── StateError               serving state or the event log cannot be opened or is damaged

Arguments of the wrong shape or range raise ``ValueError``, as everywhere in Python.
"""


class RoomRecError(Exception):
    """The root: catch it to catch every error RoomRec raises on purpose."""


class EventError(RoomRecError):
    """An event, or a file of events, cannot be read."""


class SourceError(EventError):
    """A public log is missing a file or a column, or holds a value nobody can interpret."""


class FeatureError(RoomRecError):
    """A feature, its specification and the data disagree."""


class VocabularyError(FeatureError):
    """A vocabulary is broken, or is not the one a model was trained with."""


class DatasetError(RoomRecError):
    """A processed dataset is missing, unfinished, empty or too small for the job."""


class ConfigurationError(RoomRecError):
    """A setting is wrong; the message names the key and the closest valid one."""


class TrainingError(RoomRecError):
    """Training went wrong: the loss left the numbers, or does not fall."""


class ExportError(RoomRecError):
    """A model cannot be exported within tolerance."""


class BundleError(RoomRecError):
    """A bundle is incomplete, altered or incompatible."""


class RegistryError(BundleError):
    """A version or channel does not exist."""


class RegistryConflictError(RegistryError):
    """A channel is not where the caller believed, or would point to what another points to."""


class RegistryUnavailableError(RegistryError):
    """The registry's folder cannot be read or written now; asking again later may help."""


class StateError(RoomRecError):
    """Serving state or the event log cannot be opened or is damaged."""
