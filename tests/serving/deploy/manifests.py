"""What lies in serving/deploy, read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[3]
DEPLOY: Final = ROOT / "serving" / "deploy"
FILES: Final = [*sorted(DEPLOY.glob("kubernetes/*.yaml")), DEPLOY / "kubernetes" / "secrets.yaml.example"]


def documents(*files: Path) -> list[dict[str, Any]]:
    return [document for file in files or FILES for document in yaml.safe_load_all(file.read_text())]


def find(kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in documents() if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def ray_service() -> dict[str, Any]:
    return find("RayService", "roomrec")["spec"]


def serve_config() -> dict[str, Any]:
    return yaml.safe_load(ray_service()["serveConfigV2"])


def head() -> dict[str, Any]:
    return ray_service()["rayClusterConfig"]["headGroupSpec"]


def workers() -> dict[str, Any]:
    (group,) = ray_service()["rayClusterConfig"]["workerGroupSpecs"]
    return group


def container(group: dict[str, Any]) -> dict[str, Any]:
    (only,) = group["template"]["spec"]["containers"]
    return only


def templates() -> Iterator[dict[str, Any]]:
    """Every pod that there will be."""
    yield head()["template"]
    yield workers()["template"]
    yield find("StatefulSet", "roomrec-redis")["spec"]["template"]
    yield find("CronJob", "roomrec-trimming")["spec"]["jobTemplate"]["spec"]["template"]


def fits(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector selects."""
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions)
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )
