"""Who gets the last piece, with numbers small enough to follow."""

import numpy as np
import pytest

from roomrec.simulator.config import WorldConfig
from roomrec.simulator.population import make_population
from roomrec.simulator.rows import event_rows, join_rows, of_type
from roomrec.simulator.schedule import MAX_LISTED, NO_PRODUCT, Rooms
from roomrec.simulator.stock import settle_stock, stock_at

HOUR_MS = 3_600_000


def population(restock_rate):
    config = WorldConfig(num_days=1, num_viewers=10, num_streamers=2, restock_rate=restock_rate)
    made = make_population(config)
    return made._replace(products=made.products._replace(price_cents=np.full(len(made.products.streamer), 500)))


def one_room(stock):
    """A room from 0 to 3 h that lists product 7 with some stock, and product 8 with plenty."""
    product = np.full((1, MAX_LISTED), NO_PRODUCT)
    product[0, :2] = [7, 8]
    pieces = np.full((1, MAX_LISTED), 100)
    pieces[0, 0] = stock
    return Rooms(
        day=0,
        streamer=np.array([0]),
        start_ms=np.array([0]),
        end_ms=np.array([3 * HOUR_MS]),
        category=np.array([0]),
        latent=np.zeros((1, 16), dtype=np.float32),
        popularity=np.zeros(1, dtype=np.float32),
        title=[""],
        of_streamer=np.array([0]),
        product=product,
        listed_ms=np.full((1, MAX_LISTED), 1_000),
        unlisted_ms=np.full((1, MAX_LISTED), 3 * HOUR_MS),
        stock=pieces,
        pinned=np.array([[0]]),
    )


def orders(at_ms, quantity, product=7):
    at_ms, quantity = np.array(at_ms), np.array(quantity)
    return event_rows(
        "order", at_ms=at_ms, user=1, room=0, product=product, quantity=quantity, amount_cents=500 * quantity,
        since_click_ms=1_000,
    )  # fmt: skip


def clicks(at_ms):
    return event_rows("product_click", at_ms=np.array(at_ms), user=2, room=0, product=7)


def test_the_order_that_meets_too_few_pieces_gets_what_is_left_and_the_next_nothing():
    rows = orders([10_000, 30_000, 20_000, 40_000], [1, 3, 1, 1])
    kept, changes = settle_stock(population(0.0), one_room(stock=4), rows)
    assert kept.at_ms.tolist() == [10_000, 30_000, 20_000]
    assert kept.quantity.tolist() == [1, 2, 1]
    assert kept.amount_cents.tolist() == [500, 1_000, 500]
    assert changes.at_ms.tolist() == [10_001, 20_001, 30_001]
    assert changes.stock.tolist() == [3, 2, 0]


def test_nobody_clicks_on_what_is_sold_out():
    rows = join_rows([orders([10_000], [1]), clicks([9_000, 10_000, 10_001, 50_000])])
    kept, _ = settle_stock(population(0.0), one_room(stock=1), rows)
    assert kept.at_ms[of_type(kept, "product_click")].tolist() == [9_000, 10_000]


def test_after_a_restock_those_order_who_click_after_it():
    rows = orders([10_000, 20_000, 2 * HOUR_MS], [2, 1, 1])
    kept, changes = settle_stock(population(1.0), one_room(stock=2), rows)
    assert kept.at_ms.tolist() == [10_000, 2 * HOUR_MS]
    assert changes.stock.tolist()[:3] == [0, 1, 0]
    assert 5 * 60_000 <= changes.at_ms[1] - changes.at_ms[0] <= 25 * 60_000


def test_two_orders_at_one_instant_are_one_too_many():
    kept, changes = settle_stock(population(0.0), one_room(stock=5), orders([10_000, 10_000], [1, 1]))
    assert len(kept.at_ms) == 1
    assert changes.stock.tolist() == [4]


def test_products_do_not_share_stock():
    rows = join_rows([orders([10_000, 11_000], [1, 1]), orders([12_000], [1], product=8)])
    kept, _ = settle_stock(population(0.0), one_room(stock=1), rows)
    assert kept.product.tolist() == [7, 8]


@pytest.mark.parametrize(("at_ms", "stock"), [(5_000, 4), (10_000, 4), (10_001, 3), (30_001, 0), (99_000, 0)])
def test_stock_at_an_instant(at_ms, stock):
    rooms = one_room(stock=4)
    _, changes = settle_stock(population(0.0), rooms, orders([10_000, 20_000, 30_000], [1, 2, 1]))
    place, other = np.array([0]), np.array([1])
    assert stock_at(rooms, changes, np.array([0]), place, np.array([at_ms])).tolist() == [stock]
    assert stock_at(rooms, changes, np.array([0]), other, np.array([at_ms])).tolist() == [100]
