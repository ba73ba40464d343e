"""The simulate job: what it writes, what it refuses to overwrite, what it reports."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from roomrec.errors import ConfigurationError
from roomrec.events.parquet import event_files, read_events
from roomrec.simulator.config import WorldConfig
from training.simulate import run

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def simulate(tmp_path):
    def job(*overrides):
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = compose(
                "simulate",
                [
                    "world=tiny",
                    "world.num_viewers=60",
                    "world.num_days=2",
                    f"output_dir={tmp_path}/events/w",
                    f"truth_dir={tmp_path}/truth/w",
                    *overrides,
                ],
            )
        return run(cfg)

    return job


def test_the_log_lies_by_day_and_the_truth_apart(simulate, tmp_path):
    summary = simulate("world.duplicate_rate=0")
    files = event_files(tmp_path / "events")
    assert {file.parent.name for file in files} >= {"day=2026-01-01", "day=2026-01-02"}
    assert sum(len(table) for table in read_events(tmp_path / "events")) == summary["events"]
    assert sum(summary["events_by_type"].values()) == summary["events"] > 500
    truth = {path.stem: pq.read_table(path) for path in (tmp_path / "truth/w").glob("*.parquet")}
    assert set(truth) == {"products", "rooms", "streamers", "viewers"}
    world = WorldConfig(**json.loads((tmp_path / "truth/w/world.json").read_text()))
    assert world.num_days == summary["days"]
    assert truth["rooms"].num_rows == summary["events_by_type"]["room_start"]
    assert truth["viewers"]["day"].unique().to_pylist() == [0, 1]
    assert len(truth["viewers"]["taste"][0]) == 16


def test_the_same_seed_writes_the_same_bytes(simulate, tmp_path):
    def contents():
        return {path.name + path.parent.name: path.read_bytes() for path in tmp_path.rglob("*.parquet")}

    simulate()
    first = contents()
    simulate("overwrite=true")
    assert contents() == first
    simulate("overwrite=true", "world.seed=8")
    assert contents() != first


def test_an_existing_log_is_not_overwritten(simulate, tmp_path):
    simulate()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigurationError, match=r"events/w exists: overwrite=true would delete it"):
        simulate("world.seed=8")
    assert sorted(tmp_path.rglob("*")) == before


def test_only_simulated_logs_are_ever_deleted(simulate, tmp_path):
    simulate()
    (tmp_path / "events/w/notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"holds notes.txt, which no simulation wrote"):
        simulate("overwrite=true")
    assert (tmp_path / "events/w/notes.txt").read_text() == "mine"


def test_an_impossible_world_is_named(simulate, tmp_path):
    with pytest.raises(ConfigurationError, match="late_rate is 3, expected 0 to 1"):
        simulate("world.late_rate=3")
    assert not list(tmp_path.rglob("*.parquet"))


def test_the_default_world_is_that_of_the_library():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        assert instantiate(compose("simulate").world) == WorldConfig()
