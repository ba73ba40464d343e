"""The table of data sets, experiments and goals, as ``table.yaml`` says it."""

import shlex
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from training.configuration import CONFIGS

TABLE: Final = Path(__file__).with_name("table.yaml")
"""The table that ships."""


class Claim(NamedTuple):
    """One experiment is above another on the first metric."""

    better: str
    than: str
    segment: str


class Making(NamedTuple):
    """A job that makes a folder, and its settings."""

    job: str
    name: str
    settings: list[str]


class DataSet(NamedTuple):
    """One row of the table."""

    name: str
    title: str
    needs: str | None
    make: list[str]
    experiments: list[str]
    asked_on: str
    metrics: list[str]
    goals: dict[str, float]
    also: dict[str, dict[str, float]]
    hybrid: list[str]
    truth: str | None
    published: dict[str, list[float]]
    better: list[Claim]

    def makings(self, *, datasets: Path | None, work: Path) -> list[Making]:
        """Return the jobs that make what this needs, places filled in."""
        found = []
        for line in self.make:
            job, name, *settings = shlex.split(line)
            found.append(Making(job, name, [one.format(datasets=datasets, work=work) for one in settings]))
        return found

    @property
    def ks(self) -> list[int]:
        """Depths of the metrics."""
        return sorted({int(metric.partition("@")[2]) for metric in self.metrics})


def read_table(file: Path = TABLE) -> dict[str, DataSet]:
    """Read the table.

    Args:
        file: As ``table.yaml``, which says what the entries are.

    Returns:
        Data sets by name, in the order of the file.

    Raises:
        ValueError: If an entry has an unknown key, lacks one, or names an experiment that does not exist.
    """
    return {name: _data_set(name, entry) for name, entry in yaml.safe_load(file.read_text()).items()}


def _data_set(name: str, entry: dict[str, Any]) -> DataSet:
    defaults: dict[str, Any] = {"needs": None, "goals": {}, "also": {}, "hybrid": [], "truth": None}
    defaults |= {"published": {}, "better": []}
    if unknown := entry.keys() - set(DataSet._fields):
        raise ValueError(f"{name} has {', '.join(sorted(unknown))}: known are {', '.join(DataSet._fields[1:])}")
    given = defaults | entry
    if missing := set(DataSet._fields) - {"name"} - given.keys():
        raise ValueError(f"{name} lacks {', '.join(sorted(missing))}")
    claims = [Claim(*claim) for claim in given["better"]]
    experiments = given["experiments"]
    for experiment in [*experiments, *(one for claim in claims for one in claim[:2])]:
        if not (CONFIGS / "experiment" / f"{experiment}.yaml").exists():
            raise ValueError(f"{name} names the experiment {experiment}, which is not in {CONFIGS / 'experiment'}")
    if beside := {one for claim in claims for one in claim[:2]} - set(experiments):
        raise ValueError(f"{name} claims something of {', '.join(sorted(beside))}, which is not among its experiments")
    if beside := given["also"].keys() - set(experiments):
        raise ValueError(f"{name} has goals of {', '.join(sorted(beside))}, which is not among its experiments")
    aims = [given["goals"], *given["also"].values()]
    if odd := {metric for aim in aims for metric in aim} - set(given["metrics"]):
        raise ValueError(f"{name} has goals for {', '.join(sorted(odd))}, which are not among its metrics")
    return DataSet(name=name, **(given | {"better": claims}))
