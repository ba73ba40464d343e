"""A small shop with a known model: three hosts, four products, two categories."""

from pathlib import Path

from roomrec.bundle import Registry
from roomrec.features.items import ItemFacts
from roomrec.features.vocabulary import Vocabulary
from tests.bundles import write_tiny_bundle

NOW_MS = 1_800_000_000_000
"""The time in tests of serving."""


def publish_two(root: Path) -> Path:
    """Publish two bundles and promote the older one."""
    vocabulary = Vocabulary(
        {
            "streamer": ["mia", "tom", "zoe"],
            "product": ["silk", "wool", "drill", "saw"],
            "category": ["scarves", "tools"],
        }
    )
    products = [
        ("silk", ItemFacts(None, ["silk"], "scarves", "Silk scarf", 1_990)),
        ("wool", ItemFacts(None, ["wool"], "scarves", "Wool scarf", 2_990)),
        ("drill", ItemFacts(None, ["drill"], "tools", "Drill", 9_900)),
        ("saw", ItemFacts(None, ["saw"], "tools", "Saw", 4_900)),
    ]
    popularity = [("streamer", "tom", 90), ("streamer", "mia", 50), ("product", "saw", 9), ("product", "silk", 5)]
    registry = Registry(root / "registry")
    versions = [
        registry.publish(
            write_tiny_bundle(
                root / f"bundle{seed}",
                vocabulary,
                products=products,
                popularity=popularity,
                seed=seed,
                created_at=f"2026-01-31T10:15:0{seed}+00:00",
            )
        )
        for seed in (1, 2)
    ]
    registry.promote(versions[0])
    return registry.root
