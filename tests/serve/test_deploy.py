"""The files for containers and clusters, held against what the server really does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hanok import serve as serving
from hanok.cli import build
from hanok.engine.stats import Stats
from hanok.serve.config import ServeConfig
from hanok.serve.metrics import Metrics, render

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
OBJECTS: dict[str, Any] = {
    each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes" / "hanok.yaml").read_text())
}
POD = OBJECTS["Deployment"]["spec"]["template"]["spec"]
MAIN = POD["containers"][0]
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()


def instruction(name: str) -> str:
    return re.findall(rf"^{name} (.*)$", CONTAINERFILE, re.M)[-1]


def started(words: list[str], monkeypatch: pytest.MonkeyPatch) -> ServeConfig:
    """Return what a command line would serve with, through the verb itself."""
    seen: list[ServeConfig] = []
    monkeypatch.setenv("HANOK_API_KEY", "secret")
    monkeypatch.setattr(serving, "serve", lambda model, config: seen.append(config), raising=False)
    build()(words, exit_on_error=False, print_error=False)
    return seen[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_yaml(path: Path) -> None:
    assert all(isinstance(each, dict) for each in yaml.safe_load_all(path.read_text()))


def test_every_object_says_what_it_is_and_is_named_once() -> None:
    api = {"Deployment": "apps/v1", "Service": "v1", "HorizontalPodAutoscaler": "autoscaling/v2"}
    api["PodDisruptionBudget"] = "policy/v1"
    assert {kind: each["apiVersion"] for kind, each in OBJECTS.items()} == api
    assert {each["metadata"]["name"] for each in OBJECTS.values()} == {"hanok"}


def test_what_refers_to_something_finds_it() -> None:
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert OBJECTS[kind]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["Service"]["spec"]["selector"] == labels
    ports = {port["name"]: port["containerPort"] for port in MAIN["ports"]}
    assert OBJECTS["Service"]["spec"]["ports"][0]["targetPort"] in ports
    assert all(MAIN[probe]["httpGet"]["port"] in ports for probe in ("startupProbe", "livenessProbe", "readinessProbe"))
    assert {mount["name"] for mount in MAIN["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}
    scaled = OBJECTS["HorizontalPodAutoscaler"]["spec"]
    assert scaled["scaleTargetRef"]["kind"] == "Deployment" and scaled["minReplicas"] < scaled["maxReplicas"]


def test_probes_ask_for_what_the_server_answers() -> None:
    paths = serving.Server("m", port=0).app.openapi()["paths"]
    assert MAIN["livenessProbe"]["httpGet"]["path"] == "/live", "a busy server is not a dead one"
    assert MAIN["readinessProbe"]["httpGet"]["path"] == MAIN["startupProbe"]["httpGet"]["path"] == "/ready"
    assert {"/live", "/ready", "/metrics"} <= set(paths)


def test_the_autoscaler_reads_a_metric_that_there_is() -> None:
    page = render([Metrics("m", lambda: Stats(**dict.fromkeys(Stats.__dataclass_fields__, 0)))]).decode()
    rule = yaml.safe_load((DEPLOY / "kubernetes" / "adapter-rule.yaml").read_text())["rules"]["custom"][0]
    series = rule["seriesQuery"].partition("{")[0]
    assert re.search(rf"^{series}{{", page, re.M)
    metric = OBJECTS["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert metric == rule["name"]["as"] and series == f"hanok:{metric}"


def test_commands_are_accepted_and_serve_the_world_with_a_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    entry, words = json.loads(instruction("ENTRYPOINT")), json.loads(instruction("CMD"))
    assert entry == ["hanok", "serve"]
    for args in (words, MAIN["args"]):
        config = started(["serve", *args], monkeypatch)
        assert (config.host, config.port, config.ports) == ("0.0.0.0", 8000, 1) and not config.open
        assert config.keys == ("secret",)
    assert MAIN["ports"][0]["containerPort"] == int(instruction("EXPOSE")) == 8000
    assert [each["name"] for each in MAIN["env"]] == ["HANOK_API_KEY"]
    mounts = {mount["mountPath"]: mount for mount in MAIN["volumeMounts"]}
    assert MAIN["args"][0] == words[0] == "/model" and mounts["/model"]["readOnly"]


def test_there_is_time_to_finish_before_the_kill() -> None:
    pause = int(MAIN["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] >= pause + ServeConfig().grace + 10


def test_nothing_runs_as_root_and_what_is_copied_exists() -> None:
    assert instruction("USER") == str(POD["securityContext"]["runAsUser"]) != "0"
    assert MAIN["securityContext"]["readOnlyRootFilesystem"] and POD["securityContext"]["runAsNonRoot"]
    for line in re.findall(r"^COPY (?!--from)(.*)$", CONTAINERFILE, re.M):
        assert all((ROOT / name).exists() for name in line.split()[:-1])
    wanted = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if '"torch>' in line)
    assert wanted.strip().strip(',"') in CONTAINERFILE, "the same range of torch as the package's"
