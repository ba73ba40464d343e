"""Who trains, on what, and at which sizes."""

from typing import Final, NamedTuple

EVERY_ITEM: Final = 1_000_000_000
"""As many negatives as make the softmax a full one."""

SIZES: Final = {"embedding_dim": 64, "num_blocks": 2, "num_heads": 2, "batch_size": 128, "num_negatives": 256}
"""The same for all."""


class DataSet(NamedTuple):
    """A public log."""

    name: str
    """in options and in the last line"""
    path: str
    """below the folder of public logs"""
    length: int
    """most events of a history a model sees"""


DATA: Final = {
    "beauty": DataSet("beauty", "beauty/Beauty.txt", 50),
    "ml1m": DataSet("ml1m", "ml1m/ml-1m_sas_order.txt.gz", 200),
}
"""By name."""


class Contender(NamedTuple):
    """A library in one configuration."""

    name: str
    """in options and reports"""
    environment: str
    """whose interpreter runs it"""
    side: str
    """module that knows the library"""
    variant: str
    """for that module"""
    for_quality: bool
    """whether it also trains for quality over time"""
    documented: bool
    """whether it is what the library's documentation shows, so that the headline may compare with it"""

    @property
    def is_ours(self) -> bool:
        """Whether it is RoomRec."""
        return self.environment == "roomrec"

    def overrides(self, data: DataSet, loss: str, kind: str) -> list[str]:
        """Return RoomRec's settings: what the comparison fixes; everything else is what is shipped.

        For speed the architecture is the peers' to the last size, their feed-forwards being as wide as the embedding;
        for quality it is the shipped one.
        """
        if not self.is_ours:
            return []
        settings = {
            "model": "sasrec",
            "model.embedding_dim": SIZES["embedding_dim"],
            "model.num_blocks": SIZES["num_blocks"],
            "model.block.num_heads": SIZES["num_heads"],
            "model.max_sequence_length": data.length,
            "batches.batch_size": SIZES["batch_size"],
            "loss": "softmax",
            "negatives": "uniform",
            "negatives.num_negatives": EVERY_ITEM if loss == "softmax" else SIZES["num_negatives"],
            "trainer.accelerator": "cpu",
        }
        if self.variant:
            settings["trainer.precision"] = self.variant
        if kind == "speed":
            settings |= {
                "model.block.hidden_dim": SIZES["embedding_dim"],
                "max_epochs": 100_000,
                "patience": 100_000,
                "validation.max_queries": 64,
            }
        return [f"{name}={value}" for name, value in settings.items()]


CONTENDERS: Final = {
    contender.name: contender
    for contender in (
        Contender("roomrec", "roomrec", "on_roomrec", "", for_quality=True, documented=True),
        Contender("roomrec-float32", "roomrec", "on_roomrec", "32-true", for_quality=False, documented=True),
        Contender("roomrec-bf16", "roomrec", "on_roomrec", "bf16-mixed", for_quality=False, documented=True),
        Contender("rectools", "rectools", "on_rectools", "", for_quality=True, documented=True),
        Contender("replay", "replay", "on_replay", "documented", for_quality=True, documented=True),
        Contender("replay-assembled", "replay", "on_replay", "assembled", for_quality=True, documented=False),
    )
}
"""By name, in the order of their turns; ``roomrec`` is what is shipped."""
