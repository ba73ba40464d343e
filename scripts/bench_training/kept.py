"""What was measured, kept as JSON so that an interrupted comparison goes on with what is missing."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple


class Kept(NamedTuple):
    """Measurements below one folder, each with what was asked for: asked otherwise, it counts as missing."""

    folder: Path
    """made when first written to"""

    def get(self, name: str, *, asked: dict[str, Any]) -> dict[str, Any] | None:
        """Return a measurement, or None if there is none that was asked for in this way."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            return None
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept["found"] if kept["asked"] == json.loads(json.dumps(asked)) else None

    def put(self, name: str, found: dict[str, Any], *, asked: dict[str, Any]) -> None:
        """Keep a measurement; a process that dies while writing leaves the one before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.json"
        path.with_suffix(".new").write_text(json.dumps({"asked": asked, "found": found}, indent=2))
        path.with_suffix(".new").replace(path)

    def drop(self, contender: str, *, data: Collection[str]) -> list[str]:
        """Forget everything of one contender on some data sets; return the names of what was there."""
        dropped = []
        for path in sorted(self.folder.glob("*.json")):
            parts = path.stem.split(".")
            if parts[-1] == contender and parts[1] in data:
                path.unlink()
                dropped.append(path.stem)
        return dropped
