"""The incremental user encoder to ONNX: trace, then replay histories against torch and against the whole encoder.

Legend: T events of a viewer seen before, S new ones, L all of them, D embedding.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn
from torch.export import Dim

from roomrec.batches.batch import HistoryBatch
from roomrec.errors import ExportError
from roomrec.export.onnx import USER_VECTOR, Arrays, open_graph, run_graph, trace
from roomrec.features.spec import HISTORY_INPUTS, INCREMENT_INPUTS, NEW, PAST
from roomrec.ids import PAD_INDEX
from roomrec.models.sasrec import SequenceEncoder

INCREMENTAL_TOLERANCE: Final = 1e-5
"""Largest difference of a vector's entry from what the whole history gives."""

_MOST_REPLAYED: Final = 24
"""Histories of a batch that are replayed, the longest."""
_MOST_COMPARED: Final = 8
"""Moments of a replay at which the whole history is encoded for comparison; the last is always among them."""
_SEED: Final = 1


class IncrementalParity(NamedTuple):
    """How far vectors made event by event are from those of whole histories."""

    max_abs_diff: float
    """from torch, largest absolute difference of an entry"""
    max_abs_diff_of_graphs: float
    """from the graph of the whole user encoder"""
    num_vectors: int
    """how many vectors were compared"""


def can_be_incremental(user_encoder: nn.Module) -> TypeGuard[SequenceEncoder]:
    """Whether a user encoder can take new events against what was kept of old ones."""
    return isinstance(user_encoder, SequenceEncoder) and user_encoder.num_cached is not None


def export_incremental_user_encoder(user_encoder: SequenceEncoder, file: Path) -> None:
    """Write the increment of a user encoder as ONNX, for any T from 0 and any S from 1.

    Args:
        user_encoder: One for which ``can_be_incremental`` is true.
        file: Where to write.

    Raises:
        ExportError: If it cannot be traced.
    """
    embedding_dim = user_encoder.last_norm.normalized_shape[0]
    past = [f"{PAST}{nth}" for nth in range(user_encoder.num_cached or 0)]
    example = {name: torch.ones(3, dtype=torch.int64) for name in INCREMENT_INPUTS}
    example |= {name: torch.zeros(4, embedding_dim) for name in past}
    new_events, past_events = Dim("new_events", min=1), Dim("past_events", min=0)
    shapes: list[Any] = [{0: new_events} for _ in INCREMENT_INPUTS]
    shapes.append(tuple({0: past_events} for _ in past))
    outputs = [USER_VECTOR, *(f"{NEW}{nth}" for nth in range(len(past)))]
    trace(_Increment(user_encoder), file, example=example, shapes=shapes, outputs=outputs)


class _Increment(nn.Module):
    """Calls the increment with tensors only, as a graph is called."""

    def __init__(self, user_encoder: SequenceEncoder) -> None:
        super().__init__()
        self.user_encoder = user_encoder

    def forward(
        self,
        event_type: Tensor,
        streamer_index: Tensor,
        product_index: Tensor,
        time_gap_bucket: Tensor,
        watch_time_bucket: Tensor,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        unused = event_type
        new = HistoryBatch(
            event_type, streamer_index, product_index, time_gap_bucket, watch_time_bucket, unused, unused
        )
        vector, kept = self.user_encoder.encode_increment(new, past)
        return vector, *kept


def measure_incremental_parity(
    user_encoder: nn.Module, file: Path, *, whole: Path, recorded: Iterable[Arrays]
) -> IncrementalParity:
    """Replay recorded histories event by event and in random groups, and compare the vector after each.

    Args:
        user_encoder: The torch module, on any device.
        file: The graph of its increment.
        whole: The graph of the user encoder itself.
        recorded: Batches of histories by input name, ``[B, L]``, padded on the left.

    Returns:
        The largest differences found.

    Raises:
        ExportError: If a vector is not finite.
    """
    increments, wholes = open_graph(file), open_graph(whole)
    rng = np.random.default_rng(_SEED)
    device = next(user_encoder.parameters()).device
    was_training = user_encoder.training
    user_encoder.eval()
    from_torch, from_graph, num_vectors = 0.0, 0.0, 0
    try:
        for history in _real_histories(recorded):
            length = len(history["event_type"])
            for stops in (np.arange(1, length + 1), _random_stops(length, rng)):
                compared = _random_stops(len(stops), rng) - 1
                found = replay(increments, history, stops)[compared]
                prefixes = _prefixes(history, stops[compared])
                with torch.inference_mode():
                    inputs = [torch.from_numpy(prefixes[name]).to(device) for name in HISTORY_INPUTS]
                    expected = user_encoder(*inputs).float().cpu().numpy()
                if not np.isfinite(found).all():
                    raise ExportError(f"a replayed history gives a vector of {file.name} that is not finite")
                from_torch = max(from_torch, float(np.abs(found - expected).max()))
                from_graph = max(from_graph, float(np.abs(found - run_graph(wholes, prefixes)).max()))
                num_vectors += len(found)
    finally:
        user_encoder.train(was_training)
    return IncrementalParity(from_torch, from_graph, num_vectors)


def replay(
    session: onnxruntime.InferenceSession, history: Arrays, stops: Sequence[int] | npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Encode a history as its events arrive.

    Args:
        session: The graph of an incremental user encoder.
        history: Inputs by name, each ``[L]``.
        stops: How many events have arrived at each step, ascending.

    Returns:
        The user vector after each step, ``[len(stops), D]``.
    """
    asked = [entry.name for entry in session.get_inputs()]
    widths = {entry.name: entry.shape[1] for entry in session.get_inputs() if entry.name.startswith(PAST)}
    past = {name: np.zeros((0, width), dtype=np.float32) for name, width in widths.items()}
    vectors, start = [], 0
    for stop in stops:
        feed: Mapping[str, npt.NDArray[np.generic]] = {name: history[name][start:stop] for name in INCREMENT_INPUTS}
        given = {**feed, **past}
        vector, *new = session.run(None, {name: given[name] for name in asked})
        past = {name: np.concatenate(pair) for name, *pair in zip(past, past.values(), new, strict=True)}
        vectors.append(vector[0])
        start = stop
    return np.stack(vectors)


def _real_histories(recorded: Iterable[Arrays]) -> Iterator[Arrays]:
    """Yield histories without their padding, the longest of each batch first, those without an event left out."""
    for batch in recorded:
        lengths = (batch["event_type"] != PAD_INDEX).sum(axis=1)
        for row in np.argsort(-lengths, kind="stable")[:_MOST_REPLAYED]:
            if lengths[row]:
                yield {name: np.ascontiguousarray(batch[name][row, -lengths[row] :]) for name in HISTORY_INPUTS}


def _random_stops(length: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw how many events have arrived at each of a few moments, ascending; the last is all of them."""
    return np.unique(np.append(rng.integers(1, length + 1, size=_MOST_COMPARED - 1), length))


def _prefixes(history: Arrays, stops: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
    """Return the history as it stood after each step, ``[len(stops), L]``, padded on the left."""
    length = int(stops[-1])
    place = np.arange(length)[None, :] - (length - stops[:, None])
    return {name: np.where(place >= 0, values[np.maximum(place, 0)], PAD_INDEX) for name, values in history.items()}
