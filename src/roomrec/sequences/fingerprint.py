"""A fingerprint of a processed dataset: equal for equal content, wherever it lies."""

import hashlib
import json
from pathlib import Path
from typing import Final

_CONTENT: Final = ("vocabulary.parquet", "items.parquet", "availability.parquet", "sequences/*")
"""Files that a model learns from; what was rejected is not among them."""

_NOT_CONTENT: Final = ("name", "source", "erased_users", "events_of_erased_users")
"""What ``summary.json`` says of where the dataset came from, what it is called, and what was left out of the log."""

_NUM_BLOCKS: Final = 64
_BLOCK_BYTES: Final = 65_536


def dataset_fingerprint(folder: Path) -> str:
    """Return a fingerprint of a dataset's content, in a time that does not grow with its size.

    Of each file it reads the length and 64 blocks of 64 KiB spread evenly from the first byte to the last, which is all
    of a file up to 4 MiB; and of ``summary.json`` everything but the dataset's name, where its log lay and who was left
    out.
    Preprocessing writes equal bytes for equal logs and settings.

    Args:
        folder: The dataset's.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    summary = json.loads((folder / "summary.json").read_text())
    kept = {key: value for key, value in summary.items() if key not in _NOT_CONTENT}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    for pattern in _CONTENT:
        for file in sorted(folder.glob(pattern)):
            size = file.stat().st_size
            digest.update(f"\0{file.relative_to(folder).as_posix()}\0{size}\0".encode())
            with file.open("rb") as stream:
                for start in _block_starts(size):
                    stream.seek(start)
                    digest.update(stream.read(_BLOCK_BYTES))
    return digest.hexdigest()


def _block_starts(size: int) -> list[int]:
    """Where blocks begin: one after another in a small file, else spread so that the last ends the file.

    Example:
        >>> _block_starts(150_000)
        [0, 65536, 131072]
        >>> len(_block_starts(10**9)), _block_starts(10**9)[-1] + 65_536
        (64, 1000000000)
    """
    if size <= _NUM_BLOCKS * _BLOCK_BYTES:
        return list(range(0, size, _BLOCK_BYTES))
    return [place * (size - _BLOCK_BYTES) // (_NUM_BLOCKS - 1) for place in range(_NUM_BLOCKS)]
