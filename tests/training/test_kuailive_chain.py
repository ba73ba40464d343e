"""KuaiLive's published layout, written small: preprocess, train and evaluate run on it as they are."""

import random
from pathlib import Path

import pytest

from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.sequences.dataset import ProcessedDataset
from tests.runs import SMALL_SASREC, config_of
from training import evaluate, preprocess, train

MAY_5 = 1_746_403_200_000
HOUR, DAY = 3_600_000, 86_400_000
DAYS, VIEWERS, STREAMERS = 6, 60, 8
USER_COLUMNS = "user_id,age,gender,country,device_brand,device_price,reg_timestamp,fans_num,follow_num"
STREAMER_COLUMNS = "streamer_id,gender,age,country,device_brand,device_price,live_operation_tag,fans_user_num"


def write_csv(file: Path, header: str, rows: list[tuple]) -> None:
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    file.write_text("\n".join([header, *lines]) + "\n")


def write_kuailive(folder: Path, *, streamer: str) -> Path:
    """Six days of eight streamers, a room each a day; each viewer watches two of them.

    Args:
        folder: Where the CSV files go.
        streamer: What the streamer's column is called: streamer_id as published, author_id in some public code.
    """
    folder.mkdir()
    rng = random.Random(7)
    rooms, clicks, comments, likes, gifts, negatives = [], [], [], [], [], []
    for day in range(DAYS):
        opened = MAY_5 + day * DAY + 10 * HOUR
        for host in range(STREAMERS):
            room, start = 1_000 + day * STREAMERS + host, opened + host * 60_000
            end = start + 4 * HOUR
            if (day, host) == (0, 0):
                end = None  # a row without end
            if (day, host) == (1, 1):
                end = start + 1_000  # an end before its clicks
            content = "shop" if host % 2 else "game"
            rooms.append((f"2025050{5 + day}", room, f"s{host}", 1, start, end, content, room))
        for viewer in range(VIEWERS):
            at_ms = opened + HOUR + rng.randrange(HOUR)
            for host in (viewer % STREAMERS, (viewer + 1) % STREAMERS):
                room = 1_000 + day * STREAMERS + host
                watched = rng.choice([None, 900, 60_000, 600_000])
                clicks.append((viewer, room, f"s{host}", at_ms, watched))
                if rng.random() < 0.3:
                    likes.append((viewer, room, f"s{host}", at_ms + 500))
                if rng.random() < 0.2:
                    comments.append((viewer, room, f"s{host}", at_ms + 700))
                if rng.random() < 0.1:
                    gifts.append((viewer, room, f"s{host}", at_ms + 800, 66))
                at_ms += 20 * 60_000
            shown = (viewer + 3) % STREAMERS
            negatives.append((viewer, 1_000 + day * STREAMERS + shown, f"s{shown}", opened + HOUR))
    clicks.append((1, 1_000, "s0", "soon", 5))
    who = f"user_id,live_id,{streamer},timestamp"
    write_csv(folder / "click.csv", f"{who},watch_live_time", clicks)
    write_csv(folder / "comment.csv", who, comments)
    write_csv(folder / "like.csv", who, likes)
    write_csv(folder / "gift.csv", f"{who},gift_price", gifts)
    write_csv(folder / "negative.csv", who, negatives)
    write_csv(
        folder / "room.csv",
        f"p_date,live_id,{streamer},live_type,start_timestamp,end_timestamp,live_content_category,live_name_id",
        rooms,
    )
    write_csv(
        folder / "streamer.csv",
        STREAMER_COLUMNS.replace("streamer_id", streamer),
        [(f"s{host}", "F", "24-30", "CN", "x", "1000-2000", 3, "5000+") for host in range(STREAMERS)],
    )
    write_csv(
        folder / "user.csv",
        USER_COLUMNS,
        [(viewer, "24-30", "M", "CN", "x", "1000-2000", 1_600_000_000_000, "0", "10-50") for viewer in range(VIEWERS)],
    )
    return folder


@pytest.mark.parametrize("streamer", ["streamer_id", "author_id"])
def test_preprocess_train_evaluate(tmp_path: Path, streamer: str) -> None:
    log = write_kuailive(tmp_path / "KuaiLive", streamer=streamer)
    summary = preprocess.run(
        config_of("preprocess", source="kuailive", **{"source.path": log, "output_dir": tmp_path / "processed"})
    )
    assert summary["name"] == "kuailive"
    assert summary["events"]["rejected_by_reason"] == {"not_a_number:occurred_at_ms": 1}
    assert summary["events"]["accepted_by_type"]["enter"] == DAYS * VIEWERS * 2
    assert summary["source_notes"] == {"rooms_without_end": 1, "rooms_whose_end_was_moved": 1}
    assert (summary["rooms"], summary["streamers"], summary["products"]) == (DAYS * STREAMERS, STREAMERS, 0)
    dataset = ProcessedDataset.open(tmp_path / "processed" / "kuailive")
    assert dataset.knows_availability
    assert dataset.vocabulary.ids("category").to_pylist() == ["game", "shop"]
    histories = dataset.histories
    assert set(histories.event_type[histories.target].tolist()) == {EVENT_TYPE_CODES["enter"]}

    trained = train.run(
        config_of(
            "train",
            dataset="kuailive",
            data_dir=tmp_path,
            name="run",
            trainer="cpu",
            max_epochs=1,
            **SMALL_SASREC,
        )
    )
    assert trained.epochs == 1
    measured = evaluate.run(config_of("evaluate", run="run", data_dir=tmp_path))
    rows = {row["scorer"]: row for row in measured.rows if row["segment"] == "all"}
    assert {row["surface"] for row in measured.rows} == {"room_feed"}
    # of the eight rooms that are live at a time a viewer chooses always the same two
    assert rows["model"]["mean_candidates"] == 8.0
    assert rows["model"]["queries"] > 50
    assert rows["model"]["hr@10"] == 1.0
    assert measured.summary["unavailable_targets"] == 0
