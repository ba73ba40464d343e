"""The quality table's own logic: what is asked, what is reused, what the last line says."""

import json
import signal
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from scripts.bench_quality import fingerprints, report, runs
from scripts.bench_quality.runs import Asked
from scripts.bench_quality.table import Claim, DataSet, Making, read_table
from training.run_folder import BEST_CHECKPOINT, LAST_CHECKPOINT

ENTRY = """
shop:
  title: A shop
  make: ["preprocess shop source=native source.path={datasets}/shop histories.event_types=[order]"]
  experiments: [beauty_sasrec, ml1m_sasrec]
  asked_on: shop
  metrics: [hr@10, ndcg@20]
  goals: {hr@10: 0.5}
  better: [[beauty_sasrec, ml1m_sasrec, cold]]
"""


def data_set(tmp_path, text: str = ENTRY) -> DataSet:
    (tmp_path / "table.yaml").write_text(text)
    return read_table(tmp_path / "table.yaml")["shop"]


@pytest.fixture
def listens_to_ctrl_c():
    """What a terminal gives; a shell lets what it starts in the background ignore SIGINT, and so would all below."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestTable:
    def test_the_table_that_ships_names_experiments_that_exist(self):
        table = read_table()
        assert list(table) == ["beauty", "ml1m", "gowalla", "retailrocket", "simulated"]
        for data in table.values():
            assert data.makings(datasets=None, work=data.name)
            assert all(len(values) == len(data.metrics) for values in data.published.values())

    def test_an_entry_by_hand(self, tmp_path):
        data = data_set(tmp_path)
        assert data.ks == [10, 20]
        assert data.better == [Claim("beauty_sasrec", "ml1m_sasrec", "cold")]
        (making,) = data.makings(datasets=tmp_path, work=tmp_path)
        assert (making.job, making.name) == ("preprocess", "shop")
        assert making.settings == ["source=native", f"source.path={tmp_path}/shop", "histories.event_types=[order]"]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("  title: A shop\n", "", "shop lacks title"),
            ("title:", "titel:", "shop has titel: known are title"),
            ("[beauty_sasrec, ml1m_sasrec]\n", "[nothing]\n", "names the experiment nothing, which is not in"),
            ("ml1m_sasrec, cold", "retailrocket_sasrec, cold", "claims something of retailrocket_sasrec"),
            ("hr@10: 0.5", "hr@5: 0.5", "has goals for hr@5, which are not among its metrics"),
            ("  better:", "  also: {x: {}}\n  better:", "has goals of x, which is not among its experiments"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path, old, new, message):
        assert old in ENTRY
        with pytest.raises(ValueError, match=message):
            data_set(tmp_path, ENTRY.replace(old, new))


class TestFingerprints:
    def test_comments_make_no_difference_code_does(self, tmp_path):
        file = tmp_path / "one.py"
        found = []
        for source in ("def f():\n    return 1\n", '"""Says."""\ndef f():  # why\n    """Says."""\n    return 1\n'):
            file.write_text(source)
            found.append(fingerprints.code_fingerprint(["*.py"], root=tmp_path))
        file.write_text("def f():\n    return 2\n")
        assert found[0] == found[1] != fingerprints.code_fingerprint(["*.py"], root=tmp_path)

    def test_a_file_stands_for_its_bytes_a_folder_for_its_files(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "log.txt").write_text("1 2 3\n")
        kept = fingerprints.files_fingerprint(tmp_path / "a")
        assert kept == fingerprints.files_fingerprint(tmp_path / "b")
        (tmp_path / "b" / "log.txt").write_text("1 2 4\n")
        assert kept != fingerprints.files_fingerprint(tmp_path / "b")
        one, other = (fingerprints.files_fingerprint(tmp_path / name / "log.txt") for name in ("a", "b"))
        assert one != other

    def test_where_a_run_lies_makes_no_difference_its_seed_does(self):
        config = fingerprints.composed("train", ["dataset=a", "seed=1"])
        assert config == fingerprints.composed("train", ["dataset=a", "seed=1", "name=x", "resume=true", "data_dir=/y"])
        assert config != fingerprints.composed("train", ["dataset=a", "seed=2"])


class TestMake:
    def test_a_folder_is_made_anew_when_its_files_or_the_folder_before_it_change(self, tmp_path, monkeypatch):
        loader = SourceFileLoader("bench_quality_command", str(Path(runs.__file__).parents[1] / "bench-quality"))
        command = module_from_spec(spec_from_loader(loader.name, loader))
        loader.exec_module(command)
        work, log, made = tmp_path / "work", tmp_path / "log.txt", []

        def run_job(job, settings, **_):
            made.append(job)
            (work / {"simulate": "events", "preprocess": "processed"}[job] / "shop").mkdir(parents=True, exist_ok=True)

        monkeypatch.setattr(command.runs, "run_job", run_job)

        def make(rate: str) -> list[str]:
            made.clear()
            jobs = (
                Making("simulate", "shop", [f"world.new_streamer_rate={rate}"]),
                Making("preprocess", "shop", ["source=s3rec_text", f"source.path={log}"]),
            )
            before = ""
            for job in jobs:
                before = command.make(job, before, work, lambda line: None)
            return made.copy()

        log.write_text("1 2 3\n")
        assert make(".1") == ["simulate", "preprocess"]
        assert make(".1") == []
        assert make(".2") == ["simulate", "preprocess"]
        log.write_text("1 2 4\n")
        assert make(".2") == ["preprocess"]


def asked(**changed: str) -> Asked:
    values = {"experiment": "e", "seed": 2, "settings": ["seed=2"], "dataset": "d", "wanted": "w", "code": "c"}
    return Asked(**(values | changed))


class TestRuns:
    def write(self, work, *, finished: bool, checkpoint) -> None:
        (work / "runs" / "e-seed2" / checkpoint).parent.mkdir(parents=True)
        (work / "runs" / "e-seed2" / checkpoint).touch()
        note = {"wanted": "w", "code": "c", "finished": finished, "seconds": 10.0}
        (work / "runs" / "e-seed2.json").write_text(json.dumps(note))

    def test_what_is_finished_is_reused_unless_something_changed(self, tmp_path):
        assert runs.state_of(asked(), work=tmp_path, any_code=False) == "train"
        self.write(tmp_path, finished=True, checkpoint=BEST_CHECKPOINT)
        assert runs.state_of(asked(), work=tmp_path, any_code=False) == "reuse"
        assert runs.state_of(asked(wanted="x"), work=tmp_path, any_code=True) == "train"
        assert runs.state_of(asked(code="x"), work=tmp_path, any_code=False) == "train"
        assert runs.state_of(asked(code="x"), work=tmp_path, any_code=True) == "reuse"

    def test_what_was_interrupted_goes_on_with_the_same_code_only(self, tmp_path):
        self.write(tmp_path, finished=False, checkpoint=LAST_CHECKPOINT)
        assert runs.state_of(asked(), work=tmp_path, any_code=False) == "resume"
        assert runs.state_of(asked(code="x"), work=tmp_path, any_code=True) == "train"

    def test_a_run_is_noted_before_and_after(self, tmp_path, monkeypatch):
        seen = {}

        def run_job(job, settings, *, log, tell):
            seen.update(job=job, settings=settings, before=runs._read(tmp_path / "runs" / "e-seed2.json"))

        monkeypatch.setattr(runs, "run_job", run_job)
        runs.train(asked(), work=tmp_path, resume=False, tell=print)
        assert seen["job"] == "train"
        assert seen["settings"] == ["seed=2", "name=e-seed2", "overwrite=true"]
        assert seen["before"] == {"wanted": "w", "code": "c", "finished": False, "seconds": 0.0}
        assert runs._read(tmp_path / "runs" / "e-seed2.json")["finished"] is True

    def test_an_interrupted_run_is_not_finished(self, tmp_path, monkeypatch):
        def run_job(*args, **settings):
            raise KeyboardInterrupt

        monkeypatch.setattr(runs, "run_job", run_job)
        self.write(tmp_path, finished=False, checkpoint=LAST_CHECKPOINT)
        with pytest.raises(KeyboardInterrupt):
            runs.train(asked(), work=tmp_path, resume=True, tell=print)
        kept = runs._read(tmp_path / "runs" / "e-seed2.json")
        assert kept["finished"] is False
        assert kept["seconds"] >= 10.0
        assert runs.state_of(asked(), work=tmp_path, any_code=False) == "resume"

    def test_a_job_that_fails_says_why_and_where(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "executable", "false")
        log = tmp_path / "logs" / "job.txt"
        with pytest.raises(runs.Failed, match=r"training\.train a=1 ended with 1: .*\(see .*job\.txt\)"):
            runs.run_job("train", ["a=1"], log=log, tell=lambda line: None)

    def test_ctrl_c_reaches_the_job_and_waits_for_it(self, tmp_path, monkeypatch, listens_to_ctrl_c):
        script = tmp_path / "job"
        script.write_text('#!/bin/sh\ntrap "echo saved; exit 130" INT\necho started\nwhile :; do sleep 0.05; done\n')
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        log = tmp_path / "job.txt"

        def interrupt(line):
            if line == "started":
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            runs.run_job("train", [], log=log, tell=interrupt)
        assert runs.last_line(log) == "saved"

    def test_the_last_line_that_says_something(self, tmp_path):
        (tmp_path / "log").write_bytes(b"one\ntwo\rthree\n\n  \n")
        assert runs.last_line(tmp_path / "log") == "three"
        (tmp_path / "log").write_bytes(b"")
        assert runs.last_line(tmp_path / "log") == ""


def measured(name: str, values: list[float], *, segment: str = "all") -> list[report.Row]:
    rows = [
        {"surface": "catalogue", "segment": segment, "scorer": "model", "queries": 7, "hr@10": value, "ndcg@20": 0.1}
        for value in values
    ]
    return report.average(rows, experiment=name, scorer="model")


class TestReport:
    def test_mean_and_spread_by_hand(self):
        (row,) = measured("e", [0.1, 0.2, 0.6])
        assert row["hr@10"] == pytest.approx(0.3)
        assert row["hr@10 ±"] == pytest.approx(0.2645751)
        assert (row["name"], row["seeds"], row["queries"]) == ("e", 3, 7)
        assert measured("e", [0.1])[0]["hr@10 ±"] == 0.0

    def test_blends_keep_their_name_apart(self):
        rows = [{"surface": "s", "segment": "all", "scorer": "hybrid_learned", "queries": 1, "hr@10": 0.5}]
        assert report.average(rows, experiment="e", scorer="hybrid_learned")[0]["name"] == "e + hybrid_learned"

    def test_the_last_line_says_what_missed(self, tmp_path):
        data = data_set(tmp_path)
        results = [*measured("beauty_sasrec", [0.4, 0.4]), *measured("ml1m_sasrec", [0.3])]
        assert report.headline(data, results) == {
            "hr@10": 0.4,
            "ndcg@20": 0.1,
            "seeds": 2,
            "spread": {"hr@10": 0.0, "ndcg@20": 0.0},
            "goals": {"hr@10": 0.5},
            "missed": ["hr@10 of beauty_sasrec"],
            "claims": [None],
        }
        results += measured("beauty_sasrec", [0.4], segment="cold") + measured("ml1m_sasrec", [0.3], segment="cold")
        (verdict,) = report.verdicts(data, results)
        assert verdict["values"] == [0.4, 0.3]
        assert verdict["holds"] is True

    def test_the_report_says_everything(self, tmp_path):
        data = data_set(tmp_path)._replace(published={"SASRec": [0.2, 0.05]}, also={"ml1m_sasrec": {"ndcg@20": 0.2}})
        results = [*measured("beauty_sasrec", [0.5, 0.7]), *measured("beauty_sasrec", [0.4], segment="cold")]
        report.write(
            tmp_path / "report",
            {"shop": (data, results)},
            summary={"shop": report.headline(data, results), "other": {"skipped": "not there"}},
            environment={"threads": 1},
            commands=["scripts/bench-quality"],
        )
        text = (tmp_path / "report" / "report.md").read_text()
        for line in (
            "| *SASRec, published* | 0.2000 | 0.0500 | |",
            "| beauty_sasrec | 0.6000 ± 0.1414 | 0.1000 ± 0.0000 | 2 |",
            "catalogue, cold: 7 questions",
            "- Goal of beauty_sasrec: hr@10 above 0.5000: 0.6000, reached.",
            "- Goal of ml1m_sasrec: ndcg@20 above 0.2000: not measured, missed.",
            "- beauty_sasrec > ml1m_sasrec (cold), hr@10: 0.4000 against -, was not measured.",
            "other was skipped: not there",
            "- threads: 1",
        ):
            assert line in text.splitlines()
        assert json.loads((tmp_path / "report" / "report.json").read_text())["summary"]["shop"]["missed"] == [
            "ndcg@20 of ml1m_sasrec"
        ]
