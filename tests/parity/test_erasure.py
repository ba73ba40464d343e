"""Whom the endpoint has erased, training leaves out: also from an export that was copied away before."""

import json
import shutil
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir

from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.privacy.exports import Exports
from serving.settings import Settings
from serving.state.export import export_events
from serving.state.sqlite_event_log import SqliteEventLog
from tests.serving.conftest import TestClient
from tests.serving.evening import enter, event, opening
from tests.serving.shop import NOW_MS
from training.preprocess import run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("with_pseudonyms", [False, True])
def test_who_was_erased_is_not_learned_from(tmp_path: Path, with_pseudonyms: bool) -> None:
    settings = Settings(data=str(tmp_path / "serving"), registry=str(tmp_path / "registry"), allow_no_model=True)
    if with_pseudonyms:
        (tmp_path / "key").write_text("k" * 32)
        settings = msgspec.structs.replace(settings, pseudonym_key_file=str(tmp_path / "key"))
    with TestClient(create_api(Endpoint.open(settings, now_ms=lambda: NOW_MS))) as client:
        client.post("/v1/events", json=opening())
        for user_id in ("gone", "stays"):
            reports = [enter(user_id, "scarf-room", "mia"), event("order", user_id=user_id, product_id="silk")]
            assert client.post("/v1/events", json=reports).json()["accepted"] == 2
        log = SqliteEventLog(settings.event_log_path)
        export_events(log, tmp_path / "export", exports=Exports(tmp_path / "serving"))
        log.close()
        shutil.copytree(tmp_path / "export", tmp_path / "copied")
        receipt = client.delete("/v1/users/gone").json()
    for name, left_out in (("export", 0), ("copied", 2)):
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            cfg = compose(
                "preprocess",
                [
                    f"name={name}",
                    f"source.path={tmp_path / name}",
                    f"output_dir={tmp_path / 'processed'}",
                    f"erased_users={receipt['left_out_of_training']}",
                    "splitting=leave_one_out",
                ],
            )
        summary = run(cfg)
        assert summary["events_of_erased_users"] == left_out
        assert summary["users"] == 1
        assert summary["events"]["in_sequences"] == 2
        words = json.dumps(pq.read_table(tmp_path / "processed" / name / "vocabulary.parquet").to_pylist())
        assert "gone" not in words
        assert ("stays" in words) == (not with_pseudonyms)
