"""External ids, which are opaque strings, and dense indices, which are ours."""

from typing import NewType

UserId = NewType("UserId", str)
StreamerId = NewType("StreamerId", str)
RoomId = NewType("RoomId", str)
ProductId = NewType("ProductId", str)

PAD_INDEX = 0
"""The dense index of nothing: padding, or a column that does not apply. Its embedding is zero."""

OOV_INDEX = 1
"""The dense index of any id the vocabulary does not know."""

FIRST_INDEX = 2
"""The dense index of the first real id."""
