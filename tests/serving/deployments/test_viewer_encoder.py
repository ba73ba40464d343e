"""What is remembered of viewers never shows in their vectors, only in what is run."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roomrec.bundle import Bundle
from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.features.vocabulary import Vocabulary
from roomrec.sequences.history import history_inputs
from serving.deployments.device_graph import DeviceGraph
from serving.deployments.encoders import Encoders, open_user_graph
from serving.deployments.user_graphs import IncrementalGraph, UserGraph, WholeGraph
from serving.deployments.viewer_encoder import ViewerEncoder
from serving.state.records import PastEvent, UserRecord, user_history
from tests.sequence_bundles import write_sequence_bundle

LENGTH = 10
VOCABULARY = Vocabulary({"streamer": ["mia", "tom", "zoe"], "product": ["silk", "wool"]})
START_MS = 1_700_000_000_000


@pytest.fixture(scope="module", params=["pre_norm", "frequency"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    return Bundle.open(write_sequence_bundle(folder, VOCABULARY, block=request.param, max_sequence_length=LENGTH))


@pytest.fixture(scope="module")
def whole(bundle: Bundle) -> WholeGraph:
    """The graph that was there before, which says what is right."""
    return WholeGraph(bundle)


@pytest.fixture(params=["cpu", "bound"])
def graph(bundle: Bundle, request: pytest.FixtureRequest) -> UserGraph:
    graph = IncrementalGraph(bundle.incremental_user_encoder_path)
    # the way a GPU takes, in memory of the CPU
    return graph if request.param == "cpu" else DeviceGraph(graph, "cpu")


@pytest.fixture
def encoder(graph: UserGraph) -> ViewerEncoder:
    return ViewerEncoder(graph, vocabulary=VOCABULARY, max_length=LENGTH)


def event(number: int, *, streamer: str | None = None, watch_time_ms: int = -1) -> PastEvent:
    at_ms = START_MS + number * number * 700
    streamer = ("mia", "tom", "zoe", "nobody")[number % 4] if streamer is None else streamer
    product = (None, "silk", "wool")[number % 3]
    return PastEvent(at_ms, f"e{number:03}", at_ms, EVENT_TYPE_CODES["enter"], streamer, product, "r1", watch_time_ms)


def events(*numbers: int) -> list[PastEvent]:
    return [event(number) for number in numbers]


def assert_right(whole: WholeGraph, found: np.ndarray | None, record: list[PastEvent]) -> None:
    history = user_history(UserRecord("u1", record), VOCABULARY)
    inputs = history_inputs(history, start=0, stop=len(record), max_length=LENGTH)
    assert found is not None
    np.testing.assert_allclose(found, whole.encode(inputs, user_id="u1"), atol=1e-5, rtol=0)


def counts(encoder: ViewerEncoder) -> tuple[int, int, int, int]:
    return encoder.hits, encoder.steps, encoder.prefills, encoder.full


def test_events_that_come_one_by_one_are_run_one_by_one(encoder, whole):
    for count in range(1, LENGTH + 1):
        assert_right(whole, encoder.encode("u1", events(*range(count))), events(*range(count)))
    assert counts(encoder) == (0, LENGTH - 1, 1, 0)


def test_the_same_history_runs_nothing(encoder, whole):
    first = encoder.encode("u1", events(0, 1, 2))
    assert encoder.encode("u1", events(0, 1, 2)) is first
    assert counts(encoder) == (1, 0, 1, 0)
    assert not first.flags.writeable


def test_a_late_event_is_run_with_all_that_follow_it(encoder, whole):
    encoder.encode("u1", events(0, 1, 4, 5))
    record = events(0, 1, 2, 4, 5)
    assert_right(whole, encoder.encode("u1", record), record)
    assert counts(encoder) == (0, 1, 1, 0)
    oldest = [event(0, streamer="zoe"), *record[1:]]
    assert_right(whole, encoder.encode("u1", oldest), oldest)
    assert counts(encoder) == (0, 1, 2, 0)


def test_a_shorter_history_is_another(encoder, whole):
    encoder.encode("u1", events(0, 1, 2, 3, 4))
    assert_right(whole, encoder.encode("u1", events(0, 1, 2)), events(0, 1, 2))
    assert_right(whole, encoder.encode("u1", events(0, 2)), events(0, 2))
    assert counts(encoder) == (0, 2, 1, 0)


def test_a_history_longer_than_the_window_is_run_whole_every_time(encoder, whole):
    for count in range(LENGTH - 1, LENGTH + 4):
        record = events(*range(count))
        assert_right(whole, encoder.encode("u1", record), record)
    assert counts(encoder) == (0, 1, 1, 3)
    # the oldest fall out of the state
    record = events(*range(4, LENGTH + 5))
    assert_right(whole, encoder.encode("u1", record), record)
    assert counts(encoder) == (0, 1, 1, 4)
    encoder.encode("u1", record)
    assert encoder.hits == 1


def test_a_window_that_slides_at_its_own_length(encoder, whole):
    for first in range(3):  # the state remembers as many events as the model reads
        record = events(*range(first, first + LENGTH))
        assert_right(whole, encoder.encode("u1", record), record)
    assert counts(encoder) == (0, 0, 0, 3)


def test_nobody_known_has_no_vector(encoder):
    assert encoder.encode("u1", []) is None
    strangers = [event(0, streamer="nobody"), event(3, streamer="nobody")]
    assert encoder.encode("u1", strangers) is None
    assert encoder.encode("u1", strangers) is None
    assert encoder.encode("u1", [*strangers, event(4)]) is not None
    assert encoder.encode("u1", strangers) is None


def test_viewers_do_not_mix(encoder, whole):
    assert_right(whole, encoder.encode("u1", events(0, 1)), events(0, 1))
    assert_right(whole, encoder.encode("u2", events(2, 3)), events(2, 3))
    assert_right(whole, encoder.encode("u1", events(0, 1, 5)), events(0, 1, 5))
    assert counts(encoder) == (0, 1, 2, 0)


def test_an_erased_viewer_is_forgotten(encoder, whole):
    encoder.encode("u1", events(0, 1, 2))
    encoder.forget("u1")
    encoder.forget("never seen")
    assert len(encoder) == encoder.nbytes == 0
    assert_right(whole, encoder.encode("u1", events(7)), events(7))
    assert encoder.encode("u1", []) is None
    assert "u1" not in encoder


def test_who_asked_longest_ago_is_forgotten_first(graph, whole):
    one = ViewerEncoder(graph, vocabulary=VOCABULARY, max_length=LENGTH)
    one.encode("u1", events(0, 1, 2))
    encoder = ViewerEncoder(graph, vocabulary=VOCABULARY, max_length=LENGTH, cache_bytes=2 * one.nbytes)
    for user_id in ("u1", "u2", "u1", "u3"):
        encoder.encode(user_id, events(0, 1, 2))
    assert [user_id in encoder for user_id in ("u1", "u2", "u3")] == [True, False, True]
    assert encoder.nbytes <= 2 * one.nbytes
    # a viewer who grows pushes others out, too
    for count in range(4, LENGTH):
        encoder.encode("u1", events(*range(count)))
    assert len(encoder) == 1
    assert_right(whole, encoder.encode("u3", events(0, 1, 2, 3)), events(0, 1, 2, 3))


def test_without_memory_vectors_are_the_same(graph, whole):
    encoder = ViewerEncoder(graph, vocabulary=VOCABULARY, max_length=LENGTH, cache_bytes=0)
    for count in (1, 2, 2, LENGTH + 1):
        assert_right(whole, encoder.encode("u1", events(*range(count))), events(*range(count)))
    assert len(encoder) == encoder.nbytes == 0
    with pytest.raises(ValueError, match="cache_bytes must not be negative, received -1"):
        ViewerEncoder(graph, vocabulary=VOCABULARY, max_length=LENGTH, cache_bytes=-1)


def test_bytes_are_counted_as_viewers_come_grow_and_go(encoder):
    encoder.encode("u1", events(0))
    small = encoder.nbytes
    encoder.encode("u1", events(*range(LENGTH - 1)))
    assert encoder.nbytes > small
    encoder.encode("u2", events(0))
    encoder.forget("u1")
    assert encoder.nbytes == small


class Failing:
    """A session that breaks once, after it has written."""

    def __init__(self, session: object) -> None:
        self.session = session
        self.fails = True

    def run(self, *arguments: object) -> object:
        answer = self.session.run(*arguments)
        if self.fails:
            self.fails = False
            raise RuntimeError("no memory")
        return answer


def test_after_a_failure_nothing_half_done_is_left(bundle, whole):
    graph = IncrementalGraph(bundle.incremental_user_encoder_path)
    encoder = ViewerEncoder(graph, vocabulary=VOCABULARY, max_length=LENGTH)
    encoder.encode("u1", events(0, 1))
    graph.session = Failing(graph.session)
    with pytest.raises(RuntimeError, match="no memory"):
        encoder.encode("u1", events(0, 1, 2))
    assert len(encoder) == encoder.nbytes == 0
    assert_right(whole, encoder.encode("u1", events(0, 1, 2)), events(0, 1, 2))


def test_numbers_that_are_not_finite_are_refused_and_not_remembered(graph, monkeypatch):
    encoder = ViewerEncoder(graph, vocabulary=VOCABULARY, max_length=LENGTH)
    monkeypatch.setattr(graph, "extend", lambda *_: np.array([np.nan] * 8, dtype=np.float32))
    with pytest.raises(ValueError, match="not finite"):
        encoder.encode("u1", events(0))
    assert len(encoder) == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(
        st.tuples(st.sampled_from(["u1", "u2"]), st.sets(st.integers(0, 15), max_size=14)), min_size=1, max_size=12
    ),
    cache_bytes=st.sampled_from([0, 12_000, 1 << 20]),
)
def test_whatever_is_asked_in_whatever_order(graph, whole, asked, cache_bytes):
    encoder = ViewerEncoder(graph, vocabulary=VOCABULARY, max_length=LENGTH, cache_bytes=cache_bytes)
    for user_id, numbers in asked:
        record = events(*sorted(numbers))
        found = encoder.encode(user_id, record)
        if any(each.streamer_id != "nobody" or each.product_id for each in record):
            assert_right(whole, found, record)
        else:
            assert found is None
        assert encoder.nbytes <= cache_bytes


def test_a_bundle_without_increment_encodes_whole_histories(tmp_path: Path):
    bundle = Bundle.open(write_sequence_bundle(tmp_path / "bundle", VOCABULARY, block="hstu"))
    assert bundle.incremental_user_encoder_path is None
    encoders = Encoders(bundle)
    whole = WholeGraph(bundle)
    for count in (3, 4, 4, 12):
        assert_right(whole, encoders.viewers.encode("u1", events(*range(count))), events(*range(count)))
    assert counts(encoders.viewers) == (1, 0, 0, 3)


def test_encoders_open_one_user_graph(bundle, whole):
    graph = open_user_graph(bundle)
    assert not isinstance(graph, WholeGraph)
    encoders = Encoders(bundle, cache_bytes=1 << 20)
    record = events(*range(LENGTH + 3))
    history = user_history(UserRecord("u1", record), VOCABULARY)
    assert_right(whole, encoders.encode_user(history, user_id="u1"), record)
    assert_right(whole, encoders.viewers.encode("u1", record), record)
