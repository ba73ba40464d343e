"""Faults of models: one that throws while it answers, one whose files are damaged under the endpoint."""

import itertools
import time
from collections import Counter
from typing import Any, Final

from scripts.chaos_faults.bundles import POISON
from scripts.chaos_faults.processes import kill
from scripts.chaos_faults.scene import KILLED, Fault, Scene

_SWAPPED_WITHIN_S: Final = 20.0
_LOADED_AGAIN_WITHIN_S: Final = 60.0
_POISONED: Final = 5
"""Viewers for whom the model throws."""


def let_model_throw(scene: Scene) -> None:
    """Promote a version that throws for some viewers: they get what is popular, then slates of the version before."""
    endpoint = scene.endpoint
    good, throwing, _ = endpoint.versions
    viewers = [f"poisoned-{time.time_ns()}-{number}" for number in range(_POISONED)]
    _promote(scene, throwing)
    events = [
        {
            "event_id": f"look-{viewer}",
            "event_type": "product_click",
            "occurred_at_ms": time.time_ns() // 1_000_000,
            "user_id": viewer,
            "product_id": POISON,
        }
        for viewer in viewers
    ]
    scene.expect(endpoint.ask("POST", "/v1/events", json=events).json()["accepted"] == _POISONED, "events were refused")
    began = time.monotonic()
    steps: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    by_the_version_before_s: float | None = None
    for viewer in itertools.cycle(viewers):
        if time.monotonic() - began > max(scene.seconds, 5.0):
            break
        answer = endpoint.ask("POST", "/v1/recommendations", json={"user_id": viewer, "k": 5})
        if answer.status_code != 200:
            scene.expect(answer.status_code == 503, f"a viewer for whom the model throws got {answer.status_code}")
            continue
        slate = answer.json()
        scene.expect(len(slate["items"]) == 5, f"a slate has {len(slate['items'])} items, expected 5")
        steps[f"{slate['degraded']}, {slate['step']}"] += 1
        versions[{good: "before", throwing: "throwing"}.get(slate["model_version"], "other")] += 1
        if slate["model_version"] == good and by_the_version_before_s is None:
            by_the_version_before_s = time.monotonic() - began
        time.sleep(0.005)
    failed = sum(count for step, count in steps.items() if step.startswith("model_failed"))
    scene.told |= {
        "slates_by_step": dict(steps),
        "answered_by": dict(versions),
        "first_slate_by_the_version_before_s": by_the_version_before_s and round(by_the_version_before_s, 2),
    }
    scene.expect(failed > 0, "the model never threw")
    scene.expect(by_the_version_before_s is not None, "the version before never answered")
    scene.recovered_s = by_the_version_before_s or 0.0
    answer = endpoint.ask("POST", "/v1/models:rollback")
    scene.expect(answer.status_code == 200, f"going back was answered {answer.text[:200]}")
    _wait_until_served(scene, good)


def damage_bundle(scene: Scene) -> None:
    """Shorten every file of the champion under a running endpoint, then kill a replica; then put the files back."""
    endpoint = scene.endpoint
    good, _, better = endpoint.versions
    folder = endpoint.registry / "versions" / good
    kept = {file: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    began = time.monotonic()
    try:
        for file, content in kept.items():
            file.write_bytes(content[: len(content) // 2])
        answer = endpoint.ask("POST", f"/v1/models/{better}:promote")
        scene.expect(answer.status_code == 200, f"a version that is whole was refused: {answer.text[:200]}")
        _wait_until_served(scene, better)
        answer = endpoint.ask("POST", f"/v1/models/{good}:promote")
        scene.expect(answer.status_code == 409, f"promoting a damaged version was answered {answer.status_code}")
        scene.told["refused_with"] = answer.json()["detail"]
        answer = endpoint.ask("POST", "/v1/models:rollback")
        scene.told["going_back_to_it"] = answer.status_code
    finally:
        for file, content in kept.items():
            file.write_bytes(content)
    _promote(scene, good)
    champion = folder / "user_encoder.onnx"
    try:
        champion.write_bytes(kept[champion][:-100])
        kill(endpoint.replica_pids()[0])
        killed = time.monotonic()
        scene.recovers(killed)
        time.sleep(max(1.0, scene.seconds - (time.monotonic() - began)))
        found = _described(scene)
        scene.told["with_a_damaged_champion"] = {
            "replicas": len(found),
            "without_a_model": sum(each["serving"] is None for each in found),
        }
        failures = [each["load_failure"] for each in found if each["serving"] is None]
        scene.expect(len(failures) == 1, f"{len(failures)} replicas have no model, expected the one that restarted")
        scene.expect(all(failures), "a replica without a model does not say why")
    finally:
        champion.write_bytes(kept[champion])
    repaired = time.monotonic()
    _wait_until_served(scene, good, within_s=_LOADED_AGAIN_WITHIN_S)
    scene.recovered_s = max(scene.recovered_s, time.monotonic() - repaired)


def _promote(scene: Scene, version: str) -> None:
    answer = scene.endpoint.ask("POST", f"/v1/models/{version}:promote", timeout=60.0)
    scene.expect(answer.status_code == 200, f"promoting was answered {answer.text[:200]}")
    _wait_until_served(scene, version)


def _wait_until_served(scene: Scene, version: str, *, within_s: float = _SWAPPED_WITHIN_S) -> None:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        serving = [each["serving"] for each in _described(scene)]
        if all(each is not None and each["version"] == version for each in serving):
            return
        time.sleep(0.1)
    scene.broken.append(f"not every replica serves {version} after {within_s:g} s")


def _described(scene: Scene) -> list[dict[str, Any]]:
    """Return what each replica says of its models."""
    found: dict[str, dict[str, Any]] = {}
    until = time.monotonic() + _SWAPPED_WITHIN_S
    while len(found) < scene.endpoint.replicas and time.monotonic() < until:
        answer = scene.endpoint.ask("GET", "/v1/models")
        if answer.status_code == 200:
            found[answer.json()["replica"]] = answer.json()
    return list(found.values())


FAULTS: Final = (
    Fault("model-throws", "a promoted model that throws for some viewers", let_model_throw),
    Fault(
        "bundle-damaged",
        "files of the champion cut short, a replica killed, files repaired",
        damage_bundle,
        may_see=KILLED,
    ),
)
"""What is tried here."""
