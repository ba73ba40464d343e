"""Rows of split tables: initialised, gathered into one tensor, and filled from one.

A split table is a ``ShardedTensor``: each process holds some blocks of it and knows where all blocks lie.
"""

import zlib
from collections.abc import Callable
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.metadata import ShardedTensorMetadata

from roomrec.ids import FIRST_INDEX

_ROWS_AT_ONCE: Final = 65_536
"""Rows initialised or sent together; part of what a seed means, since each such chunk has its own randomness."""

InitRows = Callable[[Tensor], None]
"""Initialises a table in place; rows from ``FIRST_INDEX`` on must be alike."""


def initialise_rows(table: ShardedTensor, init_rows: InitRows, *, seed: int, name: str) -> None:
    """Give every row the value that seed, name and row number decide, however the table is split.

    Args:
        table: ``[V, D]``; only the blocks of this process are written.
        init_rows: What the model does with a whole table.
        seed: Of the run.
        name: Of the table.
    """
    num_rows, dim = table.metadata().size
    for block, (first, left), (count, width) in _own_blocks(table):
        for chunk in range(first // _ROWS_AT_ONCE, -(-(first + count) // _ROWS_AT_ONCE)):
            start, stop = chunk * _ROWS_AT_ONCE, min((chunk + 1) * _ROWS_AT_ONCE, num_rows)
            rows = _fresh_rows(init_rows, start=start, stop=stop, dim=dim, seed=seed, name=name)
            here = slice(max(start, first), min(stop, first + count))
            with torch.no_grad():
                block[here.start - first : here.stop - first].copy_(
                    rows[here.start - start : here.stop - start, left : left + width]
                )


def _own_blocks(table: ShardedTensor) -> list[tuple[Tensor, list[int], list[int]]]:
    """The blocks this process holds, each with its offsets and sizes."""
    return [
        (block.tensor.detach(), list(block.metadata.shard_offsets), list(block.metadata.shard_sizes))
        for block in table.local_shards()
    ]


def _fresh_rows(init_rows: InitRows, *, start: int, stop: int, dim: int, seed: int, name: str) -> Tensor:
    special = 0 if start == 0 else FIRST_INDEX  # init_rows treats the first rows of what it gets as PAD and OOV
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(f"{seed} {name} {start}".encode()))
        rows = torch.empty(special + stop - start, dim)
        init_rows(rows)
    return rows[special:]


def gather_rows(
    metadata: ShardedTensorMetadata, table: ShardedTensor | None, group: dist.ProcessGroup | None = None
) -> Tensor | None:
    """Put a split table, or split optimiser state, together in the memory of process 0; every process must call.

    Args:
        metadata: Where its blocks lie.
        table: The table; None in a process that holds nothing of it.
        group: A group of all processes that can send CPU tensors.

    Returns:
        The whole on the CPU in process 0, None in the others. Where process 0 holds it all it is not copied.
    """
    rank, blocks = dist.get_rank(), metadata.shards_metadata
    own = [] if table is None else table.local_shards()
    mine = {tuple(block.metadata.shard_offsets): block.tensor.detach() for block in own}
    if len(blocks) == 1 and rank == 0 and mine:
        return next(iter(mine.values())).cpu()
    whole = torch.empty(metadata.size, dtype=metadata.tensor_properties.dtype) if rank == 0 else None
    for block in blocks:
        assert block.placement is not None
        owner = block.placement.rank()
        place = tuple(
            slice(offset, offset + size) for offset, size in zip(block.shard_offsets, block.shard_sizes, strict=True)
        )
        if whole is not None and owner == rank:
            whole[place].copy_(mine[tuple(block.shard_offsets)])
        elif whole is not None:
            for rows in whole[place].split(_ROWS_AT_ONCE):  # type: ignore[no-untyped-call]
                received = torch.empty_like(rows, memory_format=torch.contiguous_format)
                dist.recv(received, src=owner, group=group)
                rows.copy_(received)
        elif owner == rank:
            for rows in mine[tuple(block.shard_offsets)].split(_ROWS_AT_ONCE):  # type: ignore[no-untyped-call]
                dist.send(rows.cpu().contiguous(), dst=0, group=group)
    return whole


def fill_rows(table: ShardedTensor, whole: Tensor, *, source: Tensor | None = None) -> None:
    """Copy this process's blocks out of a whole tensor, which may be mapped from a file.

    Args:
        table: The table, or optimiser state with a value or row for each row of the table.
        whole: ``[V, ...]``, or what the table was before it grew.
        source: For each row of the table the row of ``whole`` it comes from, -1 to leave it as it is, ``[V]``. Without
            it rows stay where they are.

    Raises:
        ValueError: If the shapes do not fit.
    """
    size = tuple(whole.shape) if source is None else (len(source), *whole.shape[1:])
    if size != tuple(table.metadata().size):
        raise ValueError(f"whole would fill a table of {size}, the table has {tuple(table.metadata().size)}")
    for block, offsets, sizes in _own_blocks(table):
        if not offsets:
            block.copy_(whole)
            continue
        columns = tuple(slice(left, left + width) for left, width in zip(offsets[1:], sizes[1:], strict=True))
        for start in range(0, sizes[0], _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, sizes[0])
            place = slice(offsets[0] + start, offsets[0] + stop)
            if source is None:
                block[start:stop].copy_(whole[(place, *columns)])
            else:
                origin = source[place]
                kept = (origin >= 0).nonzero().flatten()
                values = whole[origin[kept]][(slice(None), *columns)].to(block.device, block.dtype)
                block[start:stop].index_copy_(0, kept.to(block.device), values)
