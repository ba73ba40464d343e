"""Which viewers an experiment gets: by a hash of who they are, so every replica and every restart agree."""

from hashlib import blake2b
from typing import Final

_BYTES: Final = 6  # of which a float holds every value, so that the greatest place is below 1


def place_of(user_id: str, *, experiment: str) -> float:
    """Return a viewer's place in an experiment, as good as uniform over ``[0, 1)``.

    It depends on nothing but the two names. Places of one viewer in two experiments are independent.

    Args:
        user_id: Who is assigned.
        experiment: The experiment's name, for a canary the version of the challenger.

    Example:
        >>> round(place_of("ann", experiment="first"), 3), round(place_of("ann", experiment="second"), 3)
        (0.771, 0.991)
    """
    names = f"{len(experiment)}:{experiment}{user_id}".encode(errors="surrogatepass")
    return int.from_bytes(blake2b(names, digest_size=_BYTES).digest(), "big") / (1 << 8 * _BYTES)


def is_assigned(user_id: str, *, experiment: str, share: float) -> bool:
    """Say whether a viewer is among the share of viewers that an experiment gets.

    Whoever is among a share is among every greater one, so viewers stay where they are while a canary grows.

    Args:
        user_id: Who asks.
        experiment: The experiment's name.
        share: Of viewers, 0 (nobody) to 1 (everybody).

    Example:
        >>> is_assigned("ann", experiment="first", share=0.0), is_assigned("ann", experiment="first", share=1.0)
        (False, True)
    """
    return place_of(user_id, experiment=experiment) < share
