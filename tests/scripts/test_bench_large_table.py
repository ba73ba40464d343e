"""The benchmark of a large table runs, and says what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench-large-table"


@pytest.mark.slow
def test_a_small_table_is_measured():
    options = ["--rows", "150000", "--dim", "8", "--steps", "3", "--batch-size", "64"]
    done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["table_mb"] == 150_000 * 8 * 4 // 2**20 == 4
    assert found["dense_adamw_mb"] == 16
    assert found["rows_touched_per_step"] == 64 * 21
    assert found["optimizer_state_mb"] == 0  # one number a row: 0.6 MB
    assert 0 < found["before_mb"] <= found["made_mb"] <= found["trained_mb"]
    assert found["steps_per_second"] > 0
