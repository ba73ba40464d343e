"""The manifests fit the schemas of Kubernetes and Ray, each other, and the endpoint they run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml

from serving.access.access_file import read_access_file
from serving.access.roles import OPEN_PATHS, find_rule
from serving.settings import PREFIX, Settings
from tests.serving.deploy.manifests import (
    DEPLOY,
    container,
    documents,
    find,
    fits,
    head,
    ray_service,
    serve_config,
    templates,
    workers,
)
from tests.serving.state.redis_server import running

pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")

KUBERNETES = "1.31"
OWN_SCHEMAS = {"RayService", "ServiceMonitor"}


def settings() -> dict[str, str]:
    return find("ConfigMap", "roomrec-settings")["data"]


def redis_conf() -> str:
    return find("ConfigMap", "roomrec-redis")["data"]["redis.conf"]


def test_every_object_fits_the_schema_of_its_kind() -> None:
    seen = set()
    for document in documents():
        seen.add(document["kind"])
        if document["kind"] not in OWN_SCHEMAS:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    assert seen == OWN_SCHEMAS | {
        *("ConfigMap", "PersistentVolumeClaim", "Secret", "Service", "PodDisruptionBudget", "Ingress"),
        *("NetworkPolicy", "StatefulSet", "CronJob"),
    }


@pytest.mark.parametrize("group", [head, workers])
def test_pods_of_ray_fit_the_schema(group: Any) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": group()["template"]["spec"]}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_a_field_that_does_not_exist_would_be_found() -> None:
    service = find("Service", "roomrec")
    service["spec"]["selectors"] = service["spec"].pop("selector")
    with pytest.raises(kubernetes_validate.ValidationError, match="selectors"):
        kubernetes_validate.validate(service, KUBERNETES, strict=True)


def test_ray_serve_takes_the_configuration_and_the_application_its_arguments() -> None:
    from ray.serve.schema import ServeDeploySchema

    from serving.app import APPLICATION, build_app

    for given in (serve_config(), yaml.safe_load((DEPLOY / "serve.yaml").read_text())):
        config = ServeDeploySchema.model_validate(given)
        assert config.proxy_location == "Disabled"
        (application,) = config.applications
        assert (application.name, application.route_prefix) == (APPLICATION, None)
        assert application.import_path == "serving.app:build_app"
        built = build_app(application.args)._bound_deployment
        scaling = built._deployment_config.autoscaling_config
        args = application.args
        assert (scaling.min_replicas, scaling.max_replicas) == (args["replicas"], args["max_replicas"])
        assert scaling.target_ongoing_requests == args["target_ongoing_requests"]
        assert built.ray_actor_options == {"num_cpus": 1}
        # secrets are in the environment of pods, and not in what Ray hands around
        assert not any("redis" in name or "access" in name for name in args)


def test_pods_hold_as_many_replicas_as_there_may_be() -> None:
    args, group = serve_config()["applications"][0]["args"], workers()
    cpus = int(container(group)["resources"]["requests"]["cpu"])
    assert args["max_replicas"] == group["maxReplicas"] * cpus
    assert args["replicas"] <= group["minReplicas"] * cpus
    assert container(group)["resources"]["limits"] == container(group)["resources"]["requests"]
    assert head()["rayStartParams"]["num-cpus"] == "0"


def test_ports_of_ray_ask_for_a_token() -> None:
    assert ray_service()["rayClusterConfig"]["authOptions"] == {"mode": "token"}
    assert "RAY_AUTH_MODE=token" in (DEPLOY / "environment").read_text().splitlines()


def test_versions_are_those_that_are_tested() -> None:
    assert ray_service()["rayClusterConfig"]["rayVersion"] == ray.__version__
    assert container(head())["image"] == container(workers())["image"]


def test_every_setting_is_one_and_they_go_together() -> None:
    given = {name: value for name, value in settings().items() if name.startswith(PREFIX)}
    assert {name.removeprefix(PREFIX).lower() for name in given} <= set(Settings.__struct_fields__)
    read = Settings.read(serve_config()["applications"][0]["args"], environment=given)
    assert (read.event_log, read.state_store, read.redis_durability) == ("redis", "redis", "always")
    assert read.access, "an endpoint that other machines reach needs keys"
    for group in (head(), workers()):
        assert container(group)["envFrom"] == [{"configMapRef": {"name": "roomrec-settings"}}]
        assert [each["name"] for each in container(group)["env"]] == ["ROOMREC_REDIS_URL"]


def test_files_named_in_settings_are_mounted() -> None:
    for group in (head(), workers()):
        mounts = {mount["mountPath"]: mount["name"] for mount in container(group)["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
        assert volumes[mounts["/data"]]["persistentVolumeClaim"]["claimName"] == "roomrec-data"
        assert settings()["ROOMREC_REGISTRY"].startswith("/data/")
        assert settings()["ROOMREC_DATA"].startswith("/data/")
        folder, _, file = settings()["ROOMREC_ACCESS"].rpartition("/")
        assert volumes[mounts[folder]]["secret"]["items"] == [{"key": file, "path": file}]
        assert "emptyDir" in volumes[mounts[settings()["PROMETHEUS_MULTIPROC_DIR"]]]


def test_the_log_is_trimmed_by_a_command_that_exists_with_the_settings_of_replicas() -> None:
    trimming = container(find("CronJob", "roomrec-trimming")["spec"]["jobTemplate"]["spec"])
    assert (trimming["image"], trimming["envFrom"], trimming["env"]) == (
        container(workers())["image"],
        container(workers())["envFrom"],
        container(workers())["env"],
    )
    python, *words, folder = trimming["command"]
    assert (python, folder.startswith("/data/")) == ("python", True)
    done = subprocess.run([sys.executable, *words, "--help"], capture_output=True, text=True, check=True)
    assert "oldest events" in done.stdout


def test_what_is_referred_to_exists() -> None:
    secrets = {each["metadata"]["name"]: each for each in documents() if each["kind"] == "Secret"}

    def references(node: Any) -> list[tuple[str, str]]:
        if isinstance(node, list):
            return [found for each in node for found in references(each)]
        if not isinstance(node, dict):
            return []
        own = [
            (node[key]["name"], node[key]["key"])
            for key in ("secretKeyRef", "credentials")
            if isinstance(node.get(key), dict)
        ]
        return own + [found for each in node.values() for found in references(each)]

    found = {reference for document in documents() for reference in references(document)}
    assert found == {
        ("roomrec-redis", "password"),
        ("roomrec-redis", "ROOMREC_REDIS_URL"),
        ("roomrec-access", "metrics-key"),
    }
    for name, key in found:
        assert key in secrets[name]["stringData"]
    (tls,) = find("Ingress", "roomrec")["spec"]["tls"]
    assert secrets[tls["secretName"]]["type"] == "kubernetes.io/tls"
    url = secrets["roomrec-redis"]["stringData"]["ROOMREC_REDIS_URL"]
    assert f"@{find('Service', 'roomrec-redis')['metadata']['name']}:6379/" in url


def test_the_example_of_keys_is_an_access_file(tmp_path: Path) -> None:
    file = tmp_path / "access.toml"
    file.write_text(find("Secret", "roomrec-access")["stringData"]["access.toml"])
    roles = {key.name: key.role for key in read_access_file(file).keys}
    rule = find_rule("GET", find("ServiceMonitor", "roomrec")["spec"]["endpoints"][0]["path"])
    assert rule is not None
    assert roles["prometheus"] in rule.roles


def test_requests_reach_ready_replicas_and_nothing_else() -> None:
    service, group = find("Service", "roomrec")["spec"], workers()
    selected = [
        template["metadata"]["labels"]["app.kubernetes.io/component"]
        for template in templates()
        if fits({"matchLabels": service["selector"]}, template["metadata"]["labels"])
    ]
    assert selected == ["replicas"]
    ports = {port["name"]: port["containerPort"] for port in container(group)["ports"]}
    assert ports[service["ports"][0]["targetPort"]] == int(settings()["ROOMREC_PORT"])
    probe = container(group)["readinessProbe"]["httpGet"]
    assert probe["path"] in OPEN_PATHS
    assert ports[probe["port"]] == 8000
    # a pod on which no replica runs just now must not be killed for it
    assert container(group)["livenessProbe"]["httpGet"]["port"] != 8000
    (rule,) = find("Ingress", "roomrec")["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/v1"]
    (endpoint,) = find("ServiceMonitor", "roomrec")["spec"]["endpoints"]
    assert endpoint["port"] == service["ports"][0]["name"]


def test_a_pod_that_ends_has_the_time_to_hand_over() -> None:
    group, read = workers(), Settings.read(environment=settings())
    hook = container(group)["lifecycle"]["preStop"]["exec"]["command"][-1]
    subprocess.run(["sh", "-nc", hook], check=True)
    assert "ray drain-node" in hook  # tests/ray/test_two_nodes.py runs it
    assert "--deadline-remaining-seconds 60; sleep 60" in hook
    assert group["template"]["spec"]["terminationGracePeriodSeconds"] > 60 + read.leave_s + read.drain_s
    readiness = container(group)["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < read.leave_s


def test_policies_select_the_pods_they_are_for() -> None:
    by_policy = {
        name: [
            template["metadata"]["labels"]["app.kubernetes.io/component"]
            for template in templates()
            if fits(find("NetworkPolicy", name)["spec"]["podSelector"], template["metadata"]["labels"])
        ]
        for name in ("roomrec", "roomrec-redis")
    }
    assert by_policy == {"roomrec": ["head", "replicas"], "roomrec-redis": ["redis"]}
    allowed = {
        json.dumps(source): [port["port"] for port in rule.get("ports", [])]
        for rule in find("NetworkPolicy", "roomrec")["spec"]["ingress"]
        for source in rule["from"]
        if "namespaceSelector" in source
    }
    assert sorted(map(tuple, allowed.values())) == [(8000,), (8000,), (8265, 52365)]
    readers = find("NetworkPolicy", "roomrec-redis")["spec"]["ingress"][0]["from"][0]["podSelector"]
    allowed_by_redis = [
        template["metadata"]["labels"]["app.kubernetes.io/component"]
        for template in templates()
        if fits(readers, template["metadata"]["labels"])
    ]
    assert allowed_by_redis == ["head", "replicas", "trimming"]
    budget = find("PodDisruptionBudget", "roomrec")["spec"]
    assert fits(budget["selector"], workers()["template"]["metadata"]["labels"])
    assert budget["maxUnavailable"] < workers()["minReplicas"]


def test_nothing_runs_as_root_or_gains_rights() -> None:
    for template in templates():
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        for each in template["spec"]["containers"]:
            assert each["securityContext"]["allowPrivilegeEscalation"] is False
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert each["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in each["resources"]["limits"]


def test_redis_as_configured_keeps_what_it_acknowledges() -> None:
    lines = (line.split(maxsplit=1) for line in redis_conf().splitlines() if not line.startswith("#"))
    options = {name: value for name, value in lines if name not in ("dir", "save")}
    with running(**options) as server:
        server.connect().check(durability="always")


def test_the_cluster_of_ray_fits_its_schema() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    text = (DEPLOY / "ray-cluster.yaml").read_text()
    validate_config(prepare_config(yaml.safe_load(text)))
    for command in yaml.safe_load(text)["head_start_ray_commands"] + yaml.safe_load(text)["worker_start_ray_commands"]:
        subprocess.run(["sh", "-nc", command], check=True)
    lines = (DEPLOY / "environment").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    names = {name.removeprefix(PREFIX).lower() for name in given if name.startswith(PREFIX)}
    assert names <= set(Settings.__struct_fields__)
    assert Settings.read(environment=given).access
