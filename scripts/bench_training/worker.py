"""One contender in a process and an environment of its own: ``python -m scripts.bench_training.worker SPEC.json``."""

import importlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()


def main(path: str) -> None:
    """Train until told to stop, or until the contender itself has finished."""
    from scripts.bench_training.logs import load
    from scripts.bench_training.pacing import Link, Stopped, make_callback

    spec: dict[str, Any] = json.loads(Path(path).read_text())
    link = Link()
    warnings.filterwarnings("ignore")  # what a library says about itself
    import torch

    torch.set_num_threads(spec["threads"])
    torch.set_num_interop_threads(1)
    side = importlib.import_module(f"scripts.bench_training.{spec['side']}")
    log = load(Path(spec["log"]))
    contender = side.Contender(spec, log)
    callback = make_callback(
        contender.callback_class,
        link=link,
        log=log,
        count=contender.count,
        vectors=contender.vectors,
        evaluates=spec["evaluates"],
        queries=spec["queries"],
        state=Path(spec["state"]) if spec["state"] else None,
        seed=spec["seed"],
    )
    ended_itself = False
    try:
        contender.train(callback)
        ended_itself = True
    except Stopped:
        pass
    link.send(
        ended=True,
        ended_itself=ended_itself,
        clock=callback.seconds(),
        curve=callback.curve,
        quality=callback.finish(),
        lifetime_s=round(time.perf_counter() - STARTED, 1),
        described=contender.described(),
    )


if __name__ == "__main__":
    main(sys.argv[1])
