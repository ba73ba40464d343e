"""A registry whose model knows the hosts and products of the load, written in a second and without torch."""

from pathlib import Path
from typing import Final, NamedTuple

from roomrec.bundle import Registry
from roomrec.features.items import ItemFacts
from tests.serving.versions import publish

ROOMS: Final = 40
"""Hosts of the load."""

PRODUCTS: Final = 10
"""Products of each."""

POISON: Final = "poison"
"""A product: the version that throws does so for whoever has looked at it."""


class Ids(NamedTuple):
    """Files of ids for the load, one a line."""

    streamers: Path
    products: Path


class Versions(NamedTuple):
    """What is in the registry."""

    good: str
    """champion at first"""
    throwing: str
    better: str


def publish_versions(folder: Path) -> tuple[Path, Versions, Ids]:
    """Publish a version that is well, one that throws and another one that is well; promote the first.

    Returns:
        The registry, its versions and the ids they know.
    """
    streamers = [f"host-{number:03d}" for number in range(ROOMS)]
    products = [f"product-{number:04d}" for number in range(ROOMS * PRODUCTS)]
    ids = Ids(folder / "streamers.txt", folder / "products.txt")
    ids.streamers.write_text("\n".join(streamers))
    ids.products.write_text("\n".join(products))
    categories = [f"category {number}" for number in range(20)]
    vocabulary = {"streamer": streamers, "product": [*products, POISON], "category": categories}
    facts = [
        (name, ItemFacts(None, [name], categories[number % 20], name, 1_990))
        for number, name in enumerate([*products, POISON])
    ]
    root = folder / "registry"
    versions = Versions(
        *(
            publish(
                root,
                name,
                vocabulary=vocabulary,
                throws_for_last_product=name == "throwing",
                products=facts,
                popularity=[("streamer", streamer, ROOMS - place) for place, streamer in enumerate(streamers)],
                seed=seed,
                created_at=f"2026-01-31T10:15:0{seed}+00:00",
            )
            for seed, name in enumerate(Versions._fields, start=1)
        )
    )
    Registry(root).promote(versions.good)
    return root, versions, ids
