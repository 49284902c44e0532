"""The deployment files name arguments, folders and routes that there are. No container and no service is run here."""

import argparse
import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from onnxpipe_server import cli
from onnxpipe_server.settings import Settings

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "server" / "deploy"


def read_settings(arguments):
    """What the server's own parser makes of them, within the ranges of its settings."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    cli.add_arguments(parser)
    args = parser.parse_args(arguments)
    Settings(**{field.name: getattr(args, field.name) for field in cli._limits()})
    return args


@pytest.fixture(scope="module")
def instructions():
    """The lines of the Containerfile, as (instruction, rest)."""
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def last_stage(instructions):
    begins = max(index for index, (name, _) in enumerate(instructions) if name == "FROM")
    return dict(instructions[begins:])


@pytest.fixture(scope="module")
def objects():
    """The Kubernetes objects by kind."""
    yaml = pytest.importorskip("yaml")
    return {one["kind"]: one for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


@pytest.fixture(scope="module")
def pod(objects):
    return objects["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def unit():
    """The unit's sections; a key that comes twice has its last value."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string((DEPLOY / "onnxpipe.service").read_text().replace("\\\n", " "))
    return parser


def test_the_container_is_not_root_and_writes_to_its_volume_only(last_stage):
    args = read_settings(json.loads(last_stage["ENTRYPOINT"])[2:] + json.loads(last_stage["CMD"]))

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last_stage["USER"])
    assert str(args.model_cache) == last_stage["VOLUME"]
    assert "PYTHONDONTWRITEBYTECODE=1" in last_stage["ENV"]
    assert (args.host, str(args.port)) == ("0.0.0.0", last_stage["EXPOSE"])


def test_the_container_builds_from_files_that_are_there_with_extras_that_there_are(instructions):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    copied = [
        source
        for name, rest in instructions
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    extras = dict(rest.split("=", 1) for name, rest in instructions if name == "ARG")["EXTRAS"].split(",")

    assert all((REPOSITORY / source).exists() for source in copied)
    needed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {package.partition("/")[0] + "/" for package in needed} <= set(copied)
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= set(copied)
    kept = (DEPLOY / "Containerfile.dockerignore").read_text().split()
    assert {f"!{source.rstrip('/')}" for source in copied} <= set(kept)
    assert set(extras) <= set(project["project"]["optional-dependencies"])


def test_the_health_of_the_container_is_asked_at_a_route_that_is_there(last_stage, client):
    url = re.search(r"http://127\.0\.0\.1:8000(/[\w/]+)", last_stage["HEALTHCHECK"])
    assert client.get(url[1]).status_code == 200


def test_each_probe_asks_a_route_that_is_there_and_life_is_not_readiness(pod, client):
    (container,) = pod["containers"]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}

    assert all(client.get(path).status_code == 200 for path in paths.values())
    assert paths["startupProbe"] == paths["readinessProbe"] == "/health/ready"
    assert paths["livenessProbe"] == "/health"


def test_what_is_scraped_is_there(objects, client):
    notes = objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert client.get(notes["prometheus.io/path"]).status_code == 200


def test_the_pod_is_given_arguments_that_the_container_takes(pod, last_stage):
    (container,) = pod["containers"]
    args = read_settings(json.loads(last_stage["ENTRYPOINT"])[2:] + container["args"])
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}

    assert container["ports"][0]["containerPort"] == args.port
    assert mounts[str(args.models)]["readOnly"]
    assert not mounts[str(args.model_cache)].get("readOnly", False)
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 2**30
    assert args.memory * 1.5 < limit
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in pod["volumes"]}


def test_the_pod_has_no_rights_that_it_does_not_need(pod, last_stage):
    security = pod["containers"][0]["securityContext"]

    assert pod["securityContext"]["runAsNonRoot"]
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == last_stage["USER"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod["automountServiceAccountToken"]
    assert pod["terminationGracePeriodSeconds"] > cli._GRACE_SECONDS + 5


def test_the_objects_name_each_other_as_they_are_called(objects):
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    port = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"]

    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] == port
    assert objects["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == port
    assert objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "onnxpipe"


def test_the_service_is_given_arguments_that_the_server_takes(unit):
    service = unit["Service"]
    program, command, *arguments = shlex.split(service["ExecStart"])
    args = read_settings(arguments)

    assert (Path(program).name, command) == ("onnxpipe", "serve")
    assert str(args.model_cache) == f"/var/cache/{service['CacheDirectory']}"
    assert args.models.parent == Path("/var/lib") / service["StateDirectory"]
    assert args.memory < int(service["MemoryHigh"].removesuffix("M")) * 2**20
    assert int(service["TimeoutStopSec"]) > cli._GRACE_SECONDS
    assert args.workers == 1  # the watchdog looks at one process
    assert service["Type"] == "notify"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path):
    text = (DEPLOY / "onnxpipe.service").read_text()
    (tmp_path / "onnxpipe.service").write_text(text.replace("/opt/onnxpipe/bin/onnxpipe", sys.executable))

    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "onnxpipe.service")], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_document_tells_of_each_file():
    document = (DEPLOY / "README.md").read_text()
    files = {file.name for file in DEPLOY.iterdir()} - {"README.md"}
    assert all(f"`{name}`" in document for name in files)
