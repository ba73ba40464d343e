"""What is searched: settings of training with Hydra's own sweep syntax, as Optuna distributions."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from roomrec.errors import ConfigurationError

EXPECTED: Final = (
    "choice(a,b), range(1,8,step=2), interval(0.1,0.6), int(interval(1,8)) or tag(log,interval(1e-4,1e-2))"
)
"""The forms there are."""


def space_from_words(words: Sequence[str]) -> list[str]:
    """Turn sweeps among the words of a command line into one setting of ``space``, which Hydra takes for plain text.

    Example:
        >>> space_from_words(["dataset=beauty", "model.dropout_rate=interval(0.1,0.6)", "loss=bce,softmax", "-h"])
        ['dataset=beauty', '-h', '++space={model.dropout_rate:"interval(0.1,0.6)",loss:"bce,softmax"}']
    """
    kept, searched = [], {}
    for word in words:
        override = _parse(word) if "=" in word and not word.startswith("-") else None
        if override is not None and override.is_sweep_override():
            searched[override.key_or_group] = word.partition("=")[2].replace('"', "'")
        else:
            kept.append(word)
    if searched:
        kept.append("++space={" + ",".join(f'{key}:"{text}"' for key, text in searched.items()) + "}")
    return kept


def parse_space(space: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """Return a distribution for each setting that is searched.

    Args:
        space: Dotted names of settings, or names of groups, and the text of a sweep for each.

    Raises:
        ConfigurationError: If there is nothing to search, or a text is none of ``EXPECTED``.

    Example:
        >>> parse_space({"model.num_blocks": "choice(1,2)"})
        {'model.num_blocks': CategoricalDistribution(choices=('1', '2'))}
    """
    if not space:
        raise ConfigurationError(
            "nothing is searched: choose space=..., or give settings a sweep, as 'model.dropout_rate=interval(0,0.6)'"
        )
    return {key: _distribution(key, text) for key, text in space.items()}


def as_override(key: str, value: Any) -> str:
    """Return a value of a trial as a word of the command line, e.g. ``model.num_blocks=2``."""
    return f"{key}={value}"


def _distribution(key: str, text: Any) -> BaseDistribution:
    override = _parse(f"{key}={text}")
    sweep = override.value() if override is not None else None
    try:
        if isinstance(sweep, ChoiceSweep):
            assert override is not None
            return CategoricalDistribution(list(override.sweep_string_iterator()))
        if isinstance(sweep, IntervalSweep):
            kind = IntDistribution if isinstance(sweep.start, int) else FloatDistribution
            return kind(sweep.start, sweep.end, log="log" in sweep.tags)
        if isinstance(sweep, RangeSweep):
            return _range_distribution(sweep)
    except ValueError as error:
        raise ConfigurationError(f"space.{key} is {text!r}: {error}") from error
    raise ConfigurationError(f"space.{key} is {text!r}: expected one of {EXPECTED}")


def _range_distribution(sweep: RangeSweep) -> BaseDistribution:
    """As in Python, the end of a range does not belong to it."""
    start, stop, step = sweep.start, sweep.stop, sweep.step
    assert start is not None
    assert stop is not None
    if all(isinstance(number, int) for number in (start, stop, step)):
        return IntDistribution(start, range(start, stop, step)[-1], step=step)
    count = int((stop - start) / step - 1e-9)
    return FloatDistribution(start, start + count * step, step=step)


def _parse(word: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None
