"""The files of deploy/: linted, held against schemas, and against what they refer to. Each check yields problems."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from erp_trainer.pool.pool import load as load_pool
from litellm_erp.errors import ErpError
from litellm_erp.goals.settings import load_settings

Json = dict[str, Any]

_WITH_GPU = "production-gpu"
OVERLAYS = ("one-machine", "production", _WITH_GPU)
_CRDS = {"ServiceMonitor": "servicemonitor.json", "RayJob": "rayjob.json"}
_ADDRESSES = {
    "SMALL_API_BASE": "http://127.0.0.1:9/v1",
    "LARGE_API_BASE": "http://127.0.0.1:9/v1",
    "REWARD_API_BASE": "http://127.0.0.1:9",
    "REDIS_URL": "redis://127.0.0.1:9",
}


def run(*command: object, **env: str) -> str:
    """What a program says where it fails, "" where it does not."""
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | env,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
        check=False,
    )
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip() or f"status {done.returncode}"


def dockerfiles(deploy: Path) -> Iterator[str]:
    """Both Dockerfiles: hadolint, what is copied is there, nobody runs as root, the proxy has a health check."""
    for path in (deploy / "Dockerfile", deploy / "Dockerfile.trainer"):
        if said := run("hadolint", path):
            yield said
        text = path.read_text(encoding="utf-8")
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
            for source in line.split()[:-1]:
                if not (deploy.parent / source).exists():
                    yield f"{path.name}: copies {source}, which is not there"
        last = re.findall(r"^USER (\S+)", text, re.MULTILINE)[-1:]
        if last != ["65532:65532"]:
            yield f"{path.name}: runs as {last}; expected the user 65532:65532"
    if not re.search(r"^HEALTHCHECK(?:.|\\\n)*?CMD \[", stage(deploy, "proxy"), re.MULTILINE):
        yield "Dockerfile: found no HEALTHCHECK in the stage proxy"
    if found := re.search(
        r"apt-get|pip install|npm|COPY (?!--from)", stage(deploy, "runtime") + stage(deploy, "proxy")
    ):
        yield f"Dockerfile: found {found.group()!r} in what serves; it belongs into the stage build"


def stage(deploy: Path, name: str) -> str:
    """The text of a stage of the Dockerfile."""
    parts = re.split(r"^(?=FROM )", (deploy / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return next((part for part in parts if re.match(rf"FROM \S+ AS {name}$", part, re.MULTILINE)), "")


def compose(deploy: Path) -> Iterator[str]:
    """compose.yaml: its schema, what it mounts, services that others wait for, secrets that stand in it."""
    path = deploy / "compose.yaml"
    if said := run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path):
        yield said
        return
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    services: dict[str, Json] = document["services"]
    for name, service in services.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith(".") and not (deploy / source).exists():
                yield f"compose.yaml: {name} mounts {source}, which is not there"
            if not source.startswith((".", "/")) and source not in document["volumes"]:
                yield f"compose.yaml: {name} mounts the volume {source}, which is not declared"
        for other in service.get("depends_on", {}):
            if other not in services:
                yield f"compose.yaml: {name} waits for {other}, which is not there"
    yield from _compose_secrets(deploy, path.read_text(encoding="utf-8"), services)


def _compose_secrets(deploy: Path, text: str, services: Mapping[str, Json]) -> Iterator[str]:
    example = (deploy / ".env.example").read_text(encoding="utf-8")
    known = set(re.findall(r"^(\w+)=", example, re.MULTILINE)) | {"PROXY_PORT", "PROXY_WORKERS"}
    for name in sorted(set(re.findall(r"(?<!\$)\$\{(\w+)", text)) - known):
        yield f"compose.yaml: reads {name}, which .env.example does not show"
    for service, content in services.items():
        for name, value in content.get("environment", {}).items():
            if re.search(r"(?i)key|secret|password|token$", name) and "$" not in str(value) and value != "none":
                yield f"compose.yaml: {service} has {name} written out; expected a reference"


def manifests(deploy: Path) -> Iterator[str]:
    """All overlays: kustomize builds them, every object is as Kubernetes 1.37's schemas or ours say."""
    for overlay in OVERLAYS:
        built, said = build(deploy, overlay)
        if said:
            yield f"{overlay}: {said}"
            continue
        pods = [pod for document in built if document["kind"] in _CRDS for pod in _pods_of(document)]
        known = [document for document in built if document["kind"] not in _CRDS]
        with tempfile.TemporaryDirectory() as folder:
            objects = Path(folder) / "objects.yaml"
            objects.write_text(yaml.safe_dump_all(known + pods), encoding="utf-8")
            if said := run("kubernetes-validate", "--strict", "--quiet", objects):
                yield f"{overlay}: {said}"
            for document in built:
                if schema := _CRDS.get(document["kind"]):
                    objects.write_text(yaml.safe_dump(document), encoding="utf-8")
                    said = run("check-jsonschema", "--schemafile", deploy / "kubernetes" / "schemas" / schema, objects)
                    if said:
                        yield f"{overlay}: {said}"


def _pods_of(document: Json) -> list[Json]:
    """The pods of an object that Kubernetes' own schemas do not know, as pods that they do."""
    name = f"{document['kind']}-{document['metadata']['name']}".lower()
    meta = [{"name": f"{name}-{number}"} for number, _ in enumerate(templates(document))]
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": each, "spec": pod}
        for each, pod in zip(meta, templates(document), strict=True)
    ]


def build(deploy: Path, overlay: str) -> tuple[list[Json], str]:
    """What kustomize makes of an overlay, and what it says where it fails."""
    command = ["kubectl", "kustomize", str(deploy / "kubernetes" / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        return [], done.stderr.strip()
    return list(yaml.safe_load_all(done.stdout)), ""


def templates(value: Any) -> Iterator[Json]:
    """Every pod's spec in an object."""
    if isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield value
            return
        for part in value.values():
            yield from templates(part)
    elif isinstance(value, list):
        for part in value:
            yield from templates(part)


def promises(deploy: Path) -> Iterator[str]:
    """What schemas do not say: references lead somewhere, pods are hardened and bounded, updates lose no request."""
    for overlay in OVERLAYS:
        built, _ = build(deploy, overlay)
        named = set(map(_name_of, built))
        for document in built:
            what, trains = "/".join(_name_of(document)), "litellm-erp-trainer" in json.dumps(document)
            if trains and (overlay == _WITH_GPU) != _asks_for_gpu(document):
                asks = "no GPU, and runs models itself" if overlay == _WITH_GPU else "a GPU, and its pool is of servers"
                yield f"{overlay}: {what} asks for {asks}"
        if ("Secret", "litellm-erp") in named:
            yield f"{overlay}: holds a Secret; expected references to one"
        for document in built:
            for pod in templates(document.get("spec", {})):
                what = f"{overlay}: {document['kind']}/{document['metadata']['name']}"
                yield from (f"{what}: {line}" for line in _of_pod(pod, named))
            if document["kind"] == "Deployment":
                yield from (f"{overlay}: {line}" for line in _of_deployment(document["spec"]))


def _name_of(document: Json) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


def _asks_for_gpu(document: Json) -> bool:
    """Whether a pod of it wants a GPU, or a node that has one."""
    return document["kind"] == "RayJob" or any(
        "nvidia.com/gpu" in json.dumps(pod) for pod in templates(document.get("spec", {}))
    )


def _of_pod(pod: Json, named: set[tuple[str, str]]) -> Iterator[str]:
    refers = [("ConfigMap", v["configMap"]["name"]) for v in pod.get("volumes", []) if "configMap" in v]
    refers += [
        ("PersistentVolumeClaim", v["persistentVolumeClaim"]["claimName"])
        for v in pod.get("volumes", [])
        if "persistentVolumeClaim" in v
    ]
    refers += [("ServiceAccount", pod["serviceAccountName"])] if "serviceAccountName" in pod else []
    if not pod.get("securityContext", {}).get("runAsNonRoot"):
        yield "may run as root"
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        name = container["name"]
        refers += [
            ("ConfigMap", e["configMapRef"]["name"]) for e in container.get("envFrom", []) if "configMapRef" in e
        ]
        resources = container.get("resources", {})
        if not resources.get("requests") or "memory" not in resources.get("limits", {}):
            yield f"container {name}: no requests, or no limit of memory"
        if container.get("securityContext", {}).get("allowPrivilegeEscalation") is not False:
            yield f"container {name}: may gain privileges"
        for variable in container.get("env", []):
            if re.search(r"(?i)(?<!pool_api_)key$|password|token$|_url$", variable["name"]) and "value" in variable:
                yield f"container {name}: has {variable['name']} written out; expected a reference to a secret"
    for reference in refers:
        if reference not in named:
            yield f"refers to {'/'.join(reference)}, which is not there"


def _of_deployment(spec: Json) -> Iterator[str]:
    pod = spec["template"]["spec"]
    proxy = next(c for c in pod["containers"] if c["name"] == "proxy")
    environment = {variable["name"]: variable.get("value") for variable in proxy["env"]}
    if spec["strategy"].get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield "an update takes a pod away before another serves; expected maxUnavailable: 0"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe not in proxy:
            yield f"found no {probe}"
    sleep_s = proxy.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    least_s = sleep_s + int(environment["GRACEFUL_SHUTDOWN_TIMEOUT"] or 0)
    if sleep_s <= 0 or least_s >= pod["terminationGracePeriodSeconds"]:
        yield f"terminationGracePeriodSeconds: expected more than preStop's sleep and LiteLLM's drain, {least_s} s"
    if not proxy.get("securityContext", {}).get("readOnlyRootFilesystem"):
        yield "the proxy may write to its root file system"


def configs(deploy: Path) -> Iterator[str]:
    """config.yaml and the pool files: copies are copies, and our own readers read them."""
    own, copied = deploy / "config" / "config.yaml", deploy / "kubernetes" / "base" / "config.yaml"
    if own.read_bytes() != copied.read_bytes():
        yield f"{copied} differs from {own}; copy it again"
    pools = [deploy / "config" / "pool-cpu.yaml", deploy / "config" / "pool.yaml"]
    kept = dict(os.environ)
    os.environ.update(_ADDRESSES)
    try:
        load_settings(own)
        for pool in [*pools, *sorted((deploy / "kubernetes").rglob("pool.yaml"))]:
            load_pool(pool)
    except ErpError as e:
        yield str(e)
    finally:
        os.environ.clear()
        os.environ.update(kept)


def monitoring(deploy: Path) -> Iterator[str]:
    """What Prometheus and Grafana read."""
    for command, name in (("config", "prometheus.yml"), ("rules", "rules.yml")):
        path = deploy / "prometheus" / name
        if not path.exists():
            yield f"{path} is not there"
        elif said := run("promtool", "check", command, path):
            yield said
    dashboard = deploy / "grafana" / "dashboard.json"
    try:
        if not json.loads(dashboard.read_text(encoding="utf-8")).get("panels"):
            yield f"{dashboard}: found no panels"
    except (OSError, ValueError) as e:
        yield f"{dashboard}: {e}"


def bundle_scripts(deploy: Path) -> Iterator[str]:
    """The scripts around object storage, run on a folder that stands for it: publish, fetch, swap, refuse, keep."""
    scripts = deploy / "kubernetes" / "training"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, bundles, made = folder / "store", folder / "bundles", folder / "made"
        for each in (store, bundles, made):
            each.mkdir()
        env = {"SOURCE": str(store), "BUNDLES": str(bundles), "RCLONE_CONFIG": os.devnull}
        fetch = ("sh", scripts / "fetch-bundle.sh", "once")
        if not run(*fetch, **env):
            yield "fetch-bundle.sh: takes a storage that names no bundle"
        (made / "manifest.json").write_text("one")
        if said := run("sh", scripts / "publish-bundle.sh", made, **env) or run(*fetch, **env):
            yield said
            return
        if not (bundles / "current").is_symlink():
            yield "fetch-bundle.sh: expected a link at current"
            return
        first = (bundles / "current").readlink()
        (store / "second").mkdir()
        (store / "second" / "manifest.json").write_text("two")
        (store / "CURRENT").write_text("second\n")
        if said := run(*fetch, **env):
            yield said
        if (bundles / "current" / "manifest.json").read_text() != "two" or not (bundles / first).is_dir():
            yield "fetch-bundle.sh: expected the second bundle at current, and the first beside it"
        for bad in ("../second", "not-there", ""):
            (store / "CURRENT").write_text(bad)
            if not run(*fetch, **env):
                yield f"fetch-bundle.sh: takes {bad!r} for a bundle"
        if (bundles / "current" / "manifest.json").read_text() != "two":
            yield "fetch-bundle.sh: a bad name took the bundle away that serves"
        shutil.rmtree(made)
        if not run("sh", scripts / "publish-bundle.sh", made, **env):
            yield "publish-bundle.sh: publishes a bundle that is not there"
