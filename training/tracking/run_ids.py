"""Under which id a tracker knows a run, kept in the run's folder, so that a resumed run goes on where it was."""

import json
from pathlib import Path


def remembered_id(folder: Path, tracker: str) -> str | None:
    """Return the id under which a tracker knows the run, or None if it does not know it yet."""
    file = folder / "tracking.json"
    ids = json.loads(file.read_text()) if file.exists() else {}
    return ids.get(tracker)


def remember_id(folder: Path, tracker: str, run_id: str) -> None:
    """Write down the id under which a tracker knows the run."""
    file = folder / "tracking.json"
    ids = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(ids | {tracker: run_id}, indent=2) + "\n")
