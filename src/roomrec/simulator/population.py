"""Everyone and everything in a world that lasts: categories, streamers, products, viewers."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.simulator.config import DAY_MS, WorldConfig
from roomrec.simulator.streamers import LATENT_DIM, Products, Streamers, make_products, make_streamers, unit
from roomrec.simulator.viewers import Viewers, make_viewers


class Population(NamedTuple):
    """What a world is made of; everything else is a function of it and of time."""

    config: WorldConfig
    centroids: npt.NDArray[np.float32]
    """[num_categories, D] unit vectors"""
    streamers: Streamers
    products: Products
    viewers: Viewers

    def day_of(self, at_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the day of the world each instant belongs to."""
        return (at_ms - self.config.start_at_ms) // DAY_MS


def make_population(config: WorldConfig) -> Population:
    """Draw a population from the seed."""
    rng = np.random.default_rng([config.seed, 100])
    centroids = unit(rng.normal(size=(config.num_categories, LATENT_DIM)))
    streamers = make_streamers(config, centroids, rng)
    products = make_products(config, streamers, centroids, rng)
    return Population(
        config=config,
        centroids=centroids,
        streamers=streamers,
        products=products,
        viewers=make_viewers(config, streamers, centroids, rng),
    )
