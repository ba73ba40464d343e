"""An environment for each peer, made when it is first needed, its versions pinned."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
"""The checkout."""

TORCH: Final = "2.13.0"
"""The version RoomRec pins; the peers get the same, so that a faster torch is nobody's advantage."""

PEERS: Final = {
    "rectools": ("rectools[torch]==0.19.0", "pytorch-lightning==2.5.2", "numpy==1.26.4", "pandas==2.3.3"),
    "replay": ("replay-rec[torch]==0.22.0", "lightning==2.6.6", "numpy==2.4.6", "pyarrow==23.0.1"),
}
"""Requirements of each peer's environment besides torch."""

_NAMED = ("torch", "numpy", "pytorch-lightning", "lightning", "rectools", "replay-rec", "roomrec", "torchrec")


def python_of(environment: str, folder: Path) -> Path:
    """Return the interpreter of an environment, which is made first if it is not there.

    Args:
        environment: ``roomrec`` (this one), ``rectools`` or ``replay``.
        folder: Where peers' environments lie.
    """
    if environment == "roomrec":
        return Path(sys.executable)
    target, pins = folder / environment, [f"torch=={TORCH}", *PEERS[environment]]
    python, stamp = target / "bin" / "python", target / ".installed"
    if not (stamp.exists() and stamp.read_text() == " ".join(pins)):
        index = os.environ.get("ROOMREC_TORCH_INDEX")
        subprocess.run([sys.executable, "-m", "venv", target], check=True)
        # torch first and alone, so that an extra index is asked for nothing else
        for wanted in ([pins[0]], pins):
            extra = ["--extra-index-url", index] if index and wanted == [pins[0]] else []
            subprocess.run([python, "-m", "pip", "install", "-q", *extra, *wanted], check=True, stdout=sys.stderr)
        stamp.write_text(" ".join(pins))
    return python


def versions_of(python: Path) -> dict[str, str]:
    """Return the versions that matter in an environment."""
    code = (
        "import json, platform, importlib.metadata as m\n"
        "found = {'python': platform.python_version()}\n"
        f"for name in {_NAMED!r}:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions
