"""Numbers of several processes add up."""

import os
import subprocess
import sys
from pathlib import Path

_COUNTS = """
import sys
from serving.api.metrics import Metrics
metrics = Metrics()
metrics.events.labels("accepted").inc(int(sys.argv[1]))
metrics.live_rooms.set(int(sys.argv[1]))
if sys.argv[1] == "3":
    print(metrics.render().decode())
"""
_FAILS = """
from serving.api.metrics import Metrics
Metrics().load_failures.set(1)
"""


def test_replicas_add_up_to_one_endpoint(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for count in ("2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", _COUNTS, count], env=environment, capture_output=True, text=True, check=True
        )
    assert 'roomrec_events_total{status="accepted"} 5.0' in done.stdout
    assert "roomrec_live_rooms 3.0" in done.stdout


def test_what_a_process_that_died_could_not_load_does_not_outlive_it(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", _FAILS], env=environment, check=True)
    command = [sys.executable, "-c", _COUNTS, "3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "roomrec_champion_not_loaded 0.0" in done.stdout
