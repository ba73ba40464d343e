"""Overwriting what deleted records have left in an LMDB file.

LMDB never overwrites: a change writes new pages, and the old ones lie about as free pages until they are used again.
What a page holds between its index and its records, and behind the end of a record that has pages of its own, is
whatever lay there before. None of it is ever read; all of it can be read with other tools.

The file is walked as its documentation in ``lmdb.h`` and ``mdb.c`` (0.9) lays it out, on machines with the least
significant byte first.
"""

import mmap
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

import lmdb

from roomrec.errors import StateError

_META: Final = Struct("<16x2I2Q I2H5Q I2H5Q 2Q")
_PAGE: Final = Struct("<Q4H")
_OVERFLOW_PAGES: Final = Struct("<12xI")
_NODE: Final = Struct("<4H")
_DATABASE: Final = Struct("<I2H5Q")
_NUMBER: Final = Struct("<Q")
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF = 1, 2
_BIG, _DATABASE_INSIDE, _DUPLICATES = 1, 2, 4
_NOWHERE: Final = 2**64 - 1
_HEADER_BYTES: Final = 16
_WAIT_S: Final = 5.0
_AT_ONCE: Final = 1 << 20
_ZEROS: Final = bytes(_AT_ONCE)
_READER = re.compile(r"^\s*\d+\s+\S+\s+(\d+)\s*$", re.MULTILINE)


class _Meta(NamedTuple):
    """Where a snapshot begins."""

    txnid: int
    page_bytes: int
    free_root: int
    main_root: int
    last_page: int


def scrub(path: Path, environment: lmdb.Environment) -> int:
    """Overwrite everything in the file that belongs to no record, while others read and write.

    First what is unused inside the pages of the newest snapshot, under a read transaction that keeps those pages from
    being used again. Then the free pages, under the write lock, once no reader is left who may still look at them.

    Args:
        path: Folder of the environment.
        environment: The environment, opened.

    Returns:
        How many bytes were overwritten with zeros, those that were zero not counted.

    Raises:
        StateError: If the file has a layout that is not known here, or an old reader does not end within five seconds.
    """
    file = os.open(path / "data.mdb", os.O_RDWR)
    try:
        overwritten = _scrub_pages(file, environment) + _scrub_free(file, environment)
        os.fdatasync(file)
    except lmdb.Error as error:
        raise StateError(f"state {path} cannot be overwritten where nothing lies: {error}") from error
    finally:
        os.close(file)
    return overwritten


def _scrub_pages(file: int, environment: lmdb.Environment) -> int:
    with environment.begin(write=True) as writing:
        # nobody can commit now, so that the newest meta page is that of the reader begun here
        meta = _newest_meta(file)
        reading = environment.begin()
        writing.abort()
    with reading, mmap.mmap(file, 0, access=mmap.ACCESS_READ) as content:
        roots = [meta.free_root, meta.main_root]
        return sum(_zero(file, content, start, stop) for start, stop in _unused(content, meta.page_bytes, roots))


def _scrub_free(file: int, environment: lmdb.Environment) -> int:
    overwritten = 0
    give_up_at_s = time.monotonic() + _WAIT_S
    while True:
        with environment.begin(write=True) as writing:
            meta = _newest_meta(file)
            oldest = min((int(txnid) for txnid in _READER.findall(environment.readers())), default=meta.txnid)
            is_left = False
            with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as content:
                for freed_by, page in _free_pages(content, meta):
                    if freed_by > oldest:
                        is_left = True
                        continue
                    start = page * meta.page_bytes
                    overwritten += _zero(file, content, start, start + meta.page_bytes)
                # what a transaction that was too large for memory wrote before it was given up
                overwritten += _zero(file, content, (meta.last_page + 1) * meta.page_bytes, len(content))
            writing.abort()
        if not is_left:
            return overwritten
        if time.monotonic() > give_up_at_s:
            raise StateError("somebody has been reading the state for seconds, so that old pages of it must stay")
        time.sleep(0.02)


def _newest_meta(file: int) -> _Meta:
    first = _read_meta(file, 0)
    second = _read_meta(file, first.page_bytes)
    return max(first, second)


def _read_meta(file: int, offset: int) -> _Meta:
    (
        magic, version, _, _,
        page_bytes, _, _, _, _, _, _, free_root,
        _, _, _, _, _, _, _, main_root,
        last_page, txnid,
    ) = _META.unpack(os.pread(file, _META.size, offset))  # fmt: skip
    if magic != _MAGIC or version != _VERSION:
        raise StateError(
            f"the state's file has another layout than LMDB 0.9 (version {version}): it cannot be scrubbed"
        )
    return _Meta(txnid, page_bytes, free_root, main_root, last_page)


def _unused(content: mmap.mmap, page_bytes: int, roots: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the stretches of the file that no record of these trees covers."""
    waiting = [root for root in roots if root != _NOWHERE]
    while waiting:
        start = waiting.pop() * page_bytes
        _, _, flags, lower, upper = _PAGE.unpack_from(content, start)
        if not flags & (_BRANCH | _LEAF):
            raise StateError(f"the state's file has a page with flags {flags} where none is expected")
        yield start + lower, start + upper
        for (at,) in Struct("<H").iter_unpack(content[start + _HEADER_BYTES : start + lower]):
            low, high, node_flags, key_bytes = _NODE.unpack_from(content, start + at)
            if flags & _BRANCH:
                waiting.append(low | high << 16 | node_flags << 32)
                continue
            data = start + at + _NODE.size + key_bytes
            if node_flags & _DUPLICATES:
                raise StateError("the state's file has sorted duplicates, which are not known here")
            if node_flags & _BIG:
                (page,) = _NUMBER.unpack_from(content, data)
                (num_pages,) = _OVERFLOW_PAGES.unpack_from(content, page * page_bytes)
                size = low | high << 16
                yield page * page_bytes + _HEADER_BYTES + size, (page + num_pages) * page_bytes
            elif node_flags & _DATABASE_INSIDE:
                root = _DATABASE.unpack_from(content, data)[-1]
                if root != _NOWHERE:
                    waiting.append(root)


def _free_pages(content: mmap.mmap, meta: _Meta) -> Iterator[tuple[int, int]]:
    """Yield the transaction that freed a page, and the page."""
    waiting = [meta.free_root] if meta.free_root != _NOWHERE else []
    while waiting:
        start = waiting.pop() * meta.page_bytes
        _, _, flags, lower, _ = _PAGE.unpack_from(content, start)
        for (at,) in Struct("<H").iter_unpack(content[start + _HEADER_BYTES : start + lower]):
            low, high, node_flags, key_bytes = _NODE.unpack_from(content, start + at)
            if flags & _BRANCH:
                waiting.append(low | high << 16 | node_flags << 32)
                continue
            (freed_by,) = _NUMBER.unpack_from(content, start + at + _NODE.size)
            data = start + at + _NODE.size + key_bytes
            if node_flags & _BIG:
                data = _NUMBER.unpack_from(content, data)[0] * meta.page_bytes + _HEADER_BYTES
            (count,) = _NUMBER.unpack_from(content, data)
            for (page,) in _NUMBER.iter_unpack(content[data + 8 : data + 8 + 8 * count]):
                yield freed_by, page


def _zero(file: int, content: mmap.mmap, start: int, stop: int) -> int:
    """Overwrite a stretch with zeros unless it is zero already."""
    overwritten = 0
    for begin in range(start, min(stop, len(content)), _AT_ONCE):
        end = min(begin + _AT_ONCE, stop, len(content))
        zeros = _ZEROS[: end - begin]
        if content[begin:end] != zeros:
            os.pwrite(file, zeros, begin)
            overwritten += end - begin
    return overwritten
