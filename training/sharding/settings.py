"""How tables are split and updated: what ``trainer.tables`` says, checked."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple

from omegaconf import DictConfig

from roomrec.errors import ConfigurationError

OPTIMIZERS: Final = {
    "sgd": "EXACT_SGD",
    "adagrad": "EXACT_ADAGRAD",
    "rowwise_adagrad": "EXACT_ROWWISE_ADAGRAD",
    "adam": "ADAM",
    "rowwise_adam": "PARTIAL_ROWWISE_ADAM",
}
"""Optimisers that run inside the backward pass, and what FBGEMM calls them."""

CPU_OPTIMIZERS: Final = ("sgd", "adagrad", "rowwise_adagrad")
"""Those that FBGEMM has for the CPU."""

SHARDINGS: Final = ("auto", "table_wise", "row_wise")
"""Whole tables to processes, rows of every table to all processes, or what TorchRec's planner takes for faster."""


class TableSettings(NamedTuple):
    """The section ``trainer.tables``."""

    optimizer: str
    """a key of OPTIMIZERS"""
    lr: float
    """its learning rate; follows the schedule of the dense layers' optimiser"""
    sharding: str
    """one of SHARDINGS"""
    min_rows: int
    """smaller tables stay whole on every process and are trained like dense layers"""


def read_table_settings(section: Mapping[str, Any], *, device: str, precision: str) -> TableSettings:
    """Check ``trainer.tables``.

    Args:
        section: As composed.
        device: ``cpu`` or ``cuda``.
        precision: Lightning's name of it.

    Raises:
        ConfigurationError: With the key and what was received.
    """
    settings = TableSettings(**section)
    choices = CPU_OPTIMIZERS if device == "cpu" else tuple(OPTIMIZERS)
    if settings.optimizer not in choices:
        where = "on the CPU tables are updated by" if device == "cpu" else "choose"
        raise ConfigurationError(
            f"trainer.tables.optimizer is {settings.optimizer!r}: {where} one of {', '.join(choices)}"
        )
    if settings.sharding not in SHARDINGS:
        raise ConfigurationError(
            f"trainer.tables.sharding is {settings.sharding!r}: choose one of {', '.join(SHARDINGS)}"
        )
    if not isinstance(settings.lr, int | float) or isinstance(settings.lr, bool) or settings.lr <= 0:
        raise ConfigurationError(f"trainer.tables.lr is {settings.lr!r}: expected a number above 0")
    if not isinstance(settings.min_rows, int) or isinstance(settings.min_rows, bool) or settings.min_rows < 1:
        raise ConfigurationError(
            f"trainer.tables.min_rows is {settings.min_rows!r}: expected a whole number of at least 1"
        )
    if precision.startswith("16"):
        raise ConfigurationError(
            f"trainer.precision is {precision!r}: it scales the loss, which tables updated inside the backward pass "
            "cannot undo; use bf16-mixed or 32-true"
        )
    return settings


def check_sharded(config: DictConfig) -> None:
    """Refuse what split tables cannot do; nothing is imported for it.

    Raises:
        ConfigurationError: With the key and what was received.
    """
    if is_sharded(config) and config.average_epochs:
        raise ConfigurationError(
            f"average_epochs is {config.average_epochs}: trainer=sharded updates rows where they lie and keeps no "
            "average of them; pass average_epochs=0"
        )


def is_sharded(config: DictConfig) -> bool:
    """Whether big tables are split over processes and updated in the backward pass."""
    return bool(config.trainer.strategy == "sharded")


def without_big_tables(config: DictConfig) -> AbstractContextManager[Any]:
    """While a model is made: leave out the memory of tables that a sharded trainer will split."""
    if not is_sharded(config):
        return nullcontext()
    from training.sharding.plan import big_tables_on_meta

    return big_tables_on_meta(min_rows=config.trainer.tables.min_rows)
