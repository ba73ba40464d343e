"""The comparison's own arithmetic: who was how fast, who got where first, what is kept."""

import gzip
import json
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

import numpy as np
import pytest

from scripts.bench_training import comparison, growth, logs, report, scoring, turns
from scripts.bench_training.contenders import CONTENDERS, DATA
from scripts.bench_training.environments import ROOT
from scripts.bench_training.kept import Kept

LOG = logs.Log(
    user_ids=np.array([7, 9]),
    item_ids=np.array([10, 20, 30, 40, 50]),
    offsets=np.array([0, 4, 9]),
    items=np.array([0, 1, 2, 3, 4, 3, 2, 1, 0]),
)
"""User 7 had 10 20 30 40, user 9 had 50 40 30 20 10."""


def segment(*, seconds: float, cpu_seconds: float, targets: int, sequences: int = 10, places: int = 400) -> dict:
    """What a worker reports."""
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "targets": targets,
        "sequences": sequences,
        "places": places,
    }


def run(curve: tuple, *, ended_itself: bool, **found) -> dict:
    """What is kept of a training for quality that was given two minutes."""
    return {"curve": curve, "ended_itself": ended_itself, "minutes": 2.0, "quality": {}} | found


class TestLog:
    def test_a_text_is_read_plain_and_gzipped(self, tmp_path):
        (tmp_path / "log.txt").write_text("7 10 20 30 40\n9 50 40 30 20 10\n")
        with gzip.open(tmp_path / "log.txt.gz", "wt") as zipped:
            zipped.write("7 10 20 30 40\n9 50 40 30 20 10\n")
        for name in ("log.txt", "log.txt.gz"):
            for found, expected in zip(logs.read_text(tmp_path / name), LOG, strict=True):
                assert found.tolist() == expected.tolist()

    def test_a_user_without_anything_to_learn_from_is_refused(self, tmp_path):
        (tmp_path / "log.txt").write_text("7 10 20\n")
        with pytest.raises(ValueError, match="has 2 events, at least 3"):
            logs.read_text(tmp_path / "log.txt")

    def test_it_is_the_same_after_a_round_trip(self, tmp_path):
        logs.save(LOG, tmp_path / "log.npz")
        assert [part.tolist() for part in logs.load(tmp_path / "log.npz")] == [part.tolist() for part in LOG]

    def test_the_last_two_are_held_out(self):
        assert LOG.targets("validation").tolist() == [2, 1]
        assert LOG.targets("test").tolist() == [3, 0]
        assert LOG.newest(1, part="train", length=9).tolist() == [4, 3, 2]
        assert LOG.newest(1, part="validation", length=2).tolist() == [3, 2]
        assert LOG.newest(1, part="test", length=2).tolist() == [2, 1]

    def test_targets_are_events_after_a_first_one(self):
        assert LOG.targets_of_pass() == 1 + 2
        assert LOG.targets_of_pass(1) == 1 + 1

    def test_users_are_chosen_the_same_for_the_same_seed(self):
        many = LOG._replace(user_ids=np.arange(100))
        chosen = logs.sample_users(many, 10, seed=3)
        assert len(set(chosen.tolist())) == 10
        assert chosen.tolist() == logs.sample_users(many, 10, seed=3).tolist()
        assert len(logs.sample_users(many, 0, seed=3)) == 100


class TestScoring:
    def test_earlier_items_are_removed_and_ties_count_against(self):
        everything = np.ones(5, dtype=bool)
        items = np.array([[9.0], [8.0], [1.0], [2.0], [1.0]], dtype=np.float32)
        vectors = scoring.Vectors(np.ones((2, 1), dtype=np.float32), items, everything)
        ranks = scoring.ranks_of_targets(vectors, LOG, np.array([0, 1]), part="validation")
        # user 7 asks for item 2, which 3 beats and 4 equals; user 9 for item 1, which only 0 beats
        assert ranks.tolist() == [3, 2]

    def test_an_unknown_item_is_last(self):
        known = np.array([True, True, False, True, True])
        vectors = scoring.Vectors(np.ones((1, 1), dtype=np.float32), np.ones((5, 1), dtype=np.float32), known)
        assert scoring.ranks_of_targets(vectors, LOG, np.array([0]), part="validation").tolist() == [5]

    def test_quality_counts_the_first_ten(self):
        assert scoring.quality(np.array([1, 3, 10, 11])) == {
            "ndcg@10": pytest.approx((1.0 + 0.5 + 0.2890648) / 4),
            "hr@10": 0.75,
        }


class TestComparison:
    CURVE = ((5.0, 4.0, 0.01), (10.0, 9.0, 0.04), (15.0, 14.0, 0.03), (20.0, 19.0, 0.04))

    def test_the_best_is_where_it_was_first_reached(self):
        assert comparison.best_of(self.CURVE) == (10.0, 9.0, 0.04)

    def test_a_curve_without_points_has_no_best(self):
        with pytest.raises(ValueError, match="train for longer"):
            comparison.best_of([])

    @pytest.mark.parametrize(("value", "seconds"), [(0.005, 5.0), (0.01, 5.0), (0.02, 10.0), (0.05, None)])
    def test_nothing_is_interpolated(self, value, seconds):
        point = comparison.first_reaching(self.CURVE, value)
        assert (point and point[0]) == seconds

    def test_rates_are_medians_over_segments(self):
        segments = [
            segment(seconds=10, cpu_seconds=5, targets=100),
            segment(seconds=10, cpu_seconds=5, targets=200),
            segment(seconds=20, cpu_seconds=5, targets=200),
        ]
        rates = comparison.rates(segments, rows_are_users=False, targets_a_sequence=5.0, targets_of_pass=1000)
        assert rates["tokens_per_s"] == 10.0
        assert rates["sequences_per_s"] == 2.0
        assert rates["sequences_per_cpu_s"] == 8.0
        assert rates["seconds_per_pass"] == 100.0
        assert rates["rows_per_s"] == 1.0
        assert rates["padding_share"] == pytest.approx(1 - 500 / 1200)

    def test_a_row_of_a_peer_is_a_user(self):
        segments = [segment(seconds=10, cpu_seconds=5, targets=100, sequences=30)]
        rates = comparison.rates(segments, rows_are_users=True, targets_a_sequence=5.0, targets_of_pass=1500)
        assert rates["sequences_per_s"] == rates["rows_per_s"] == 3.0
        assert rates["sequences_per_cpu_s"] == 6.0
        assert rates["tokens_per_s"] == 15.0
        assert rates["seconds_per_pass"] == 100.0

    def test_ratios_say_how_many_times_faster_and_how_much_less(self):
        ours = {"sequences_per_s": 900.0, "sequences_per_cpu_s": 800.0, "peak_memory_mb": 700.0}
        peer = {"sequences_per_s": 100.0, "sequences_per_cpu_s": 100.0, "peak_memory_mb": 1400.0}
        our_run = run(((1.0, 1.0, 0.02), (4.0, 3.0, 0.05)), ended_itself=True, quality={"test_ndcg@10": 0.05})
        peer_run = run(((40.0, 30.0, 0.04), (80.0, 70.0, 0.03)), ended_itself=False, quality={"test_ndcg@10": 0.031})
        assert comparison.compare(ours, peer, our_run, peer_run) == {
            "speedup": 9.0,
            "speedup_by_cpu_time": 8.0,
            "time_to_quality_speedup": 10.0,
            "time_to_quality_speedup_by_cpu_time": 10.0,
            "memory_ratio": 0.5,
            "peer_best_validation_ndcg@10": 0.04,
            "peer_seconds_to_it": 40.0,
            "seconds_to_it": 4.0,
            "minutes": 2.0,
            "finished": True,
            "peer_finished": False,
            "quality": {"test_ndcg@10": 0.05},
            "peer_quality": {"test_ndcg@10": 0.031},
        }

    def test_a_peer_that_was_never_reached_leaves_no_ratio(self):
        speed = {"sequences_per_s": 1.0, "sequences_per_cpu_s": 1.0, "peak_memory_mb": 1.0}
        our_run = run(((1.0, 1.0, 0.02),), ended_itself=False)
        peer_run = run(((40.0, 30.0, 0.04),), ended_itself=True)
        found = comparison.compare(speed, speed, our_run, peer_run)
        assert found["time_to_quality_speedup"] is None
        assert found["seconds_to_it"] is None
        assert "peer_quality" not in comparison.compare(speed, speed, our_run, None)

    @pytest.mark.parametrize(
        ("values", "ended_itself", "rising"),
        [
            ((0.01, 0.02, 0.03, 0.04), False, True),
            ((0.01, 0.04, 0.03, 0.03), False, True),
            ((0.04, 0.03, 0.03, 0.03), False, False),
            ((0.01, 0.02, 0.03, 0.04), True, False),
            ((), False, False),
        ],
    )
    def test_a_best_near_the_end_of_the_time_may_not_be_the_last(self, values, ended_itself, rising):
        curve = tuple((10.0 * place, 9.0 * place, value) for place, value in enumerate(values))
        assert comparison.still_improving(run(curve, ended_itself=ended_itself)) is rising

    def test_the_fastest_trains_the_most_sequences(self):
        assert comparison.fastest({"a": {"sequences_per_s": 2.0}, "b": {"sequences_per_s": 3.0}}) == "b"


class TestKept:
    def test_what_was_asked_for_otherwise_is_missing(self, tmp_path):
        kept = Kept(tmp_path / "measured")
        assert kept.get("speed.beauty.rectools", asked={"seed": 0}) is None
        kept.put("speed.beauty.rectools", {"steps": 3}, asked={"seed": 0, "sizes": (1, 2)})
        assert kept.get("speed.beauty.rectools", asked={"seed": 0, "sizes": (1, 2)}) == {"steps": 3}
        assert kept.get("speed.beauty.rectools", asked={"seed": 1, "sizes": (1, 2)}) is None

    def test_one_contender_is_forgotten_on_the_data_sets_named(self, tmp_path):
        kept = Kept(tmp_path)
        names = ("speed.beauty.roomrec", "quality.beauty.roomrec", "speed.beauty.roomrec-bf16", "speed.ml1m.roomrec")
        for name in names:
            kept.put(name, {}, asked={})
        assert kept.drop("roomrec", data=["beauty"]) == ["quality.beauty.roomrec", "speed.beauty.roomrec"]
        assert kept.get("speed.beauty.roomrec-bf16", asked={}) == {}
        assert kept.get("speed.ml1m.roomrec", asked={}) == {}


class Worker:
    """A turn whose answers are known."""

    def __init__(self, name: str, answers: list[dict], asked: list[tuple[str, float]]) -> None:
        self.name = name
        self._answers = iter(answers)
        self._asked = asked

    def answer(self) -> dict:
        return next(self._answers)

    def train(self, seconds: float) -> dict:
        self._asked.append((self.name, seconds))
        return next(self._answers)

    def stop(self) -> dict:
        self._asked.append((self.name, 0.0))
        return next(self._answers)

    def close(self) -> None: ...


class TestTurns:
    def test_speed_is_measured_round_by_round(self):
        asked: list[tuple[str, float]] = []
        answer = {"segment": segment(seconds=1, cpu_seconds=1, targets=5) | {"steps": 1}, "peak_memory_mb": 100.0}
        ended = {"described": {"class": "x"}}
        workers = [Worker(name, [{}, answer, answer | {"peak_memory_mb": 120.0}, ended], asked) for name in "ab"]
        found = turns.measure_speed(workers, rounds=2, seconds=3.0, report=lambda line: None)
        assert asked == [("a", 3.0), ("b", 3.0), ("a", 3.0), ("b", 3.0), ("a", 0.0), ("b", 0.0)]
        assert found["a"]["peak_memory_mb"] == 120.0
        assert len(found["b"]["segments"]) == 2

    def test_training_for_quality_ends_with_the_time_or_by_itself(self):
        asked: list[tuple[str, float]] = []
        going = {"curve": [[1.0, 1.0, 0.1]]}
        ended = {"ended": True, "quality": {}, "curve": []}
        slow = Worker(
            "slow", [{"clock": 4.0}, going | {"clock": 9.0}, going | {"clock": 10.5}, ended | {"clock": 10.5}], asked
        )
        quick = Worker("quick", [{"clock": 0.0}, ended | {"clock": 2.0}], asked)
        kept: dict[str, float] = {}
        turns.measure_quality(
            [slow, quick],
            limit=10.0,
            seconds=5.0,
            report=lambda line: None,
            keep=lambda name, found: kept.update({name: found["clock"]}),
        )
        assert asked == [("slow", 5.0), ("quick", 5.0), ("slow", 1.0), ("slow", 0.0)]
        assert kept == {"quick": 2.0, "slow": 10.5}


def test_grown_logs_hold_every_item_and_the_events_asked_for():
    log = growth.make_log(growth.Point("items", 500, 9000, 500, 0, 50), seed=1)
    assert len(np.unique(log.items)) == 500
    assert len(log.item_ids) == 500
    assert 8000 < log.offsets[-1] < 10_000
    assert np.diff(log.offsets).min() >= 5
    long = growth.make_log(growth.Point("length", 200, 10_000, 50, 203, 200), seed=1)
    assert set(np.diff(long.offsets)) == {203}


def test_items_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="500 items do not fit"):
        growth.make_log(growth.Point("items", 500, 90, 500, 0, 50), seed=1)


def test_only_ours_is_configured_by_hydra():
    assert CONTENDERS["rectools"].overrides(DATA["beauty"], "softmax", "speed") == []
    overrides = CONTENDERS["roomrec-bf16"].overrides(DATA["ml1m"], "sampled", "speed")
    assert "model.max_sequence_length=200" in overrides
    assert "negatives.num_negatives=256" in overrides
    assert "trainer.precision=bf16-mixed" in overrides


SEGMENTS = [segment(seconds=10, cpu_seconds=9, targets=100), segment(seconds=10, cpu_seconds=9, targets=110)]
RATES = comparison.rates(SEGMENTS, rows_are_users=False, targets_a_sequence=5.0, targets_of_pass=1000)
SPEED = {"segments": SEGMENTS, "peak_memory_mb": 512.0, "described": "as is", "versions": {"torch": "2"}, **RATES}


def test_the_report_says_who_was_how_fast(tmp_path):
    trained = run(
        ((5.0, 5.0, 0.01), (20.0, 18.0, 0.03)),
        ended_itself=False,
        clock=60.0,
        quality={"validation_ndcg@10": 0.031, "test_ndcg@10": 0.021, "test_hr@10": 0.05},
        described="as is",
        versions={"torch": "2"},
    )
    finished = trained | {"ended_itself": True}
    parts = {
        "comparison": {"speedup": 9.0},
        "speed": {"softmax": {"rectools": SPEED}},
        "quality": {"rectools": finished, "replay": trained},
    }
    report.write({"beauty": parts}, {"cpus": 2}, tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert "| rectools | 2 | 2 | 1 | 10 | 95 | 74% | 512 | 10% |" in lines
    assert "| rectools | 60 | by itself | 20 | 0.0300 | 0.0310 | 0.0210 | 0.0500 |" in lines
    assert "| replay | 60 | time was up | 20 | 0.0300 | 0.0310 | 0.0210 | 0.0500 |" in lines
    (cut_off,) = [line for line in lines if "still improving" in line]
    assert cut_off.startswith("- **replay was still improving when its 2 minutes were over**: ")
    assert not any("revision" in line for line in lines)
    assert json.loads((tmp_path / "report.json").read_text())["data"]["beauty"]["comparison"] == {"speedup": 9.0}


def test_the_report_says_with_which_code_our_figures_were_measured(tmp_path):
    def measured(revision: str) -> dict:
        return SPEED | {"versions": {"torch": "2", "roomrec": revision}}

    speed = {"softmax": {"roomrec": measured("aaa1111"), "roomrec-bf16": measured("aaa1111"), "rectools": SPEED}}
    found = {"beauty": {"comparison": {}, "speed": speed, "quality": {}}}
    assert report.of_several_revisions(found) is None
    report.write(found, {}, tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert "- `aaa1111`: beauty speed softmax (roomrec), beauty speed softmax (roomrec-bf16)" in lines
    found["ml1m"] = {"comparison": {}, "speed": {"sampled": {"roomrec": measured("bbb2222+changes")}}, "quality": {}}
    warning = (
        "RoomRec's figures were measured with 2 revisions of its code (aaa1111, bbb2222+changes): "
        "--again roomrec,roomrec-bf16 measures them anew"
    )
    assert report.of_several_revisions(found) == warning
    report.write(found, {}, tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert f"**{warning}.**" in lines
    assert "- `bbb2222+changes`: ml1m speed sampled (roomrec)" in lines


@pytest.fixture(scope="module")
def command():
    """The command as a module."""
    loader = SourceFileLoader("bench_training_command", str(ROOT / "scripts" / "bench-training"))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (["--rounds", "0"], "--rounds is 0: expected a whole number of at least 1"),
        (["--seconds", "-1"], "--seconds is -1: expected seconds above 0"),
        (["--turn", "0"], "--turn is 0: expected seconds above 0"),
        (["--minutes", "-2"], "--minutes is -2: expected minutes above 0, or 0 for no training for quality"),
        (["--minutes", "nan"], "--minutes is nan: expected minutes above 0, or 0 for no training for quality"),
        (["--queries", "-1"], "--queries is -1: expected a number of users, or 0 for all"),
        (["--data", "netflix"], "unknown: netflix; choose from beauty, ml1m"),
    ],
)
def test_senseless_options_are_refused(command, monkeypatch, capsys, given, answer):
    monkeypatch.setattr("sys.argv", ["bench-training", *given])
    with pytest.raises(SystemExit):
        command.read_options()
    assert answer in capsys.readouterr().err


def test_the_last_line_says_who_finished(command):
    curve = ((40.0, 30.0, 0.04), (80.0, 70.0, 0.05))
    speed = dict.fromkeys(("roomrec", "roomrec-bf16", "rectools"), SPEED)
    runs = {"roomrec": run(curve, ended_itself=True), "rectools": run(curve, ended_itself=False)}
    line = command.last_line({"beauty": {"comparison": command.compare(speed, runs)}})
    compared = line["beauty"]
    assert (compared["peer"], compared["finished"], compared["peer_finished"], compared["minutes"]) == (
        "rectools",
        True,
        False,
        2.0,
    )
    assert "all" not in compared
