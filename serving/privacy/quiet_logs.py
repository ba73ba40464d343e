"""Logs that repeat nothing a client sent: of an error, its kind and where it happened, never its message.

The message of an error often quotes the value that caused it (``KeyError: 'anna'``), and that may be anything.
"""

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Final, TextIO

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class QuietFormatter(logging.Formatter):
    """Writes of an exception, and of those that caused it, the type and the lines of code; no messages, no values."""

    def formatException(  # noqa: N802  (logging calls it so)
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        """Return the lines below a record."""
        return describe_error(ei[1])

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text; what another formatter made of its exception does not count."""
        record.exc_text = None
        try:
            return super().format(record)
        finally:
            record.exc_text = None


def describe_error(error: BaseException | None) -> str:
    """Return what may be said of an error.

    Example:
        >>> try:
        ...     {}["anna"]
        ... except KeyError as error:
        ...     print(describe_error(error).splitlines()[-1])
        KeyError
    """
    lines = []
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        parts = [
            f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
        ]
        lines = [*parts, type(error).__qualname__, *(["which caused"] if lines else []), *lines]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(lines)


def log_quietly(stream: TextIO | None = None) -> None:
    """Send what all loggers of this process say to one stream, quietly; for a process that serves.

    Args:
        stream: Where to; by default standard error.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(QuietFormatter(_FORMAT))
    root = logging.getLogger()
    for other in list(root.handlers):
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda died: _log_uncaught(died.exc_type, died.exc_value, died.exc_traceback)
    sys.unraisablehook = lambda lost: _log_uncaught(lost.exc_type, lost.exc_value, lost.exc_traceback)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    if error is not None:
        logging.getLogger(__name__).error("an error nobody expected", exc_info=(kind, error, where))
