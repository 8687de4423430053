"""Mistakes that the checks must find: each is made in a copy of deploy/."""

from typing import NamedTuple


class Break(NamedTuple):
    """A text of a file in place of another, and what the check must say of it."""

    check: str
    file: str
    old: str
    new: str
    said: str


_BASE = "kubernetes/base/deployment.yaml"
_PRODUCTION = "kubernetes/overlays/production/"
_GPU = "kubernetes/overlays/production-gpu/"
_TRAINING = "kubernetes/training/"
_GRACE = "terminationGracePeriodSeconds: "
_GRAFANA = 'GF_SECURITY_ADMIN_PASSWORD: "${GRAFANA_PASSWORD:?'

BREAKS = (
    Break("dockerfiles", "Dockerfile", "python:${PYTHON}-slim-bookworm AS build", "python:latest AS build", "DL3007"),
    Break("dockerfiles", "Dockerfile.trainer", "USER 65532:65532", "USER root", "runs as ['root']"),
    Break("dockerfiles", "Dockerfile", "COPY trainer trainer", "COPY training training", "copies training"),
    Break("dockerfiles", "Dockerfile", "AS proxy\n", "AS proxy\nRUN pip install x==1\n", "found 'pip install'"),
    Break("dockerfiles", "Dockerfile", "HEALTHCHECK --interval=10s", "# --interval=10s", "no HEALTHCHECK"),
    Break("compose", "compose.yaml", "  shm_size: 8gb", "  shm_sice: 8gb", "shm_sice"),
    Break("compose", "compose.yaml", "./config/config.yaml:", "./config/nowhere.yaml:", "nowhere.yaml"),
    Break("compose", "compose.yaml", _GRAFANA, 'GF_SECURITY_ADMIN_PASSWORD: "', "written out"),
    Break("compose", "compose.yaml", "depends_on: [prometheus]", "depends_on: [prometheuz]", "prometheuz"),
    Break("manifests", _BASE, "minReadySeconds: 5", "minReadySecond: 5", "minReadySecond"),
    Break("manifests", _PRODUCTION + "hpa.yaml", "maxReplicas: 20", "maxReplicas: many", "many"),
    Break("manifests", _PRODUCTION + "servicemonitor.yaml", "interval: 15s", "intervall: 15s", "intervall"),
    Break("manifests", _GPU + "rayjob.yaml", "replicas: 2", "replicaz: 2", "replicaz"),
    Break("manifests", _GPU + "rayjob.yaml", "limits: {memory: 32Gi}", "limit: {memory: 32Gi}", "limit"),
    Break("manifests", _PRODUCTION + "kustomization.yaml", "- hpa.yaml", "- hpa.yml", "hpa.yml"),
    Break("promises", _BASE, "maxUnavailable: 0", "maxUnavailable: 1", "maxUnavailable: 0"),
    Break("promises", _BASE, _GRACE + "90", _GRACE + "60", "70 s"),
    Break("promises", _BASE, "livenessProbe:", "readinessProb:", "no livenessProbe"),
    Break("promises", _BASE, "valueFrom: {secretKeyRef: {name: litellm-erp, key: redis-url}}", "value: x", "REDIS_URL"),
    Break("promises", _TRAINING + "runs.yaml", "name: litellm-erp-runs", "name: erp-runs", "litellm-erp-runs"),
    Break("promises", _TRAINING + "job.yaml", "limits: {memory: 256Mi}", "limits: {cpu: 1}", "publish"),
    Break(
        "promises", _TRAINING + "job.yaml", "{memory: 32Gi}", '{memory: 32Gi, nvidia.com/gpu: "1"}', "asks for a GPU"
    ),
    Break(
        "promises", _GPU + "kustomization.yaml", "name: litellm-erp-train}", "name: trained}", "Job/litellm-erp-train"
    ),
    Break("configs", _GPU + "pool.yaml", "engine: vllm", "engine: vlm", "vlm"),
    Break("configs", "kubernetes/base/config.yaml", "num_retries: 2", "num_retries: 3", "differs"),
    Break("configs", "config/pool.yaml", "k: 4", "kk: 4", "kk"),
    Break("monitoring", "prometheus/rules.yml", "expr:", "exrp:", "exrp"),
    Break("monitoring", "prometheus/prometheus.yml", "scrape_configs:", "scrape_config:", "scrape_config"),
    Break("bundle scripts", _TRAINING + "fetch-bundle.sh", "mv -fT", "true", "expected a link"),
)
# Of the image, whose environment is installed once.
IMAGE_BREAKS = (
    Break("image", "config/config.yaml", "bundle: /bundles/current", "bundle: /bundles/currant", "currant"),
    Break("image", "config/config.yaml", ', "litellm_erp.proxy.erp_router"', "", "not this plugin's"),
)
