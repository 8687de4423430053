"""manifest.json: what a bundle says about itself, and the checks on what it says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from litellm_erp.bundle.frontier import LARGEST
from litellm_erp.choice.cost import Price
from litellm_erp.config_section import Section
from litellm_erp.effort import checked
from litellm_erp.embedding.base import CARRIED_KINDS, EmbedderSpec
from litellm_erp.errors import BundleError, EmbedderMismatch, PricesError
from litellm_erp.shown import shown

MANIFEST = "manifest.json"
SCHEMA_VERSION = 2
# What a bundle may claim. All of it is far beyond any real one, and small enough that a claim alone costs no memory.
MAX_MODELS = 4096
MAX_DIMENSION = 32_768
MAX_WEIGHTS = 1 << 26  # of all models together: 256 MB
MAX_FILE_BYTES = 1 << 30
MAX_FEATURES, MAX_SETS = 4096, 16
MAX_NAME = 512
MAX_POINTS = 10_000
MAX_TOKENS = 1e9
_REMEDY = ". The file is not a whole manifest; copy or fit the bundle again"
# Control characters and separators of lines: names end in headers, logs and on terminals.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of the bundle: its path inside the folder, size and hash."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One pool model.

    Attributes
    ----------
    name : as in the outcomes table
    probe : its safetensors file
    rows : training outcomes
    beta : ridge penalty in the sum form
    mean_reward : over its training outcomes, in reward units; what safety leans towards
    mean_weight : over so many requests, where updates made them more than its training outcomes
    r2, r2_by_category : out of fold; None where the rewards do not vary
    price : as stated or found; empty when unknown
    constant_cost_usd : mean recorded cost of a request: where there is no price, or in its place (the ``paper`` preset)
    stats : files under stats/ for updating; may be absent
    parameters : what each request to it is sent with, see ``effort.PARAMETERS``; None where it is not said
    """

    name: str
    probe: FileRecord
    rows: int
    beta: float
    mean_reward: float
    r2: float | None
    r2_by_category: Mapping[str, float | None]
    price: Price
    constant_cost_usd: float | None = None
    stats: tuple[FileRecord, ...] = ()
    parameters: Mapping[str, Any] | None = None
    mean_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole of manifest.json.

    Attributes
    ----------
    features : of ERP, what all models share (`bundle.features`); None where the probes are all there is
    stack : the weights of the estimator's parts, one for each set of memberships and the ridge's last; for later models
    tasks : the categories of each of the first set's memberships, where these are tasks; empty where it is not said
    policy_files, policy_options : what other policies than ERP keep and were fitted with
    """

    policy: str
    preset: str
    safety: bool
    embedder: EmbedderSpec
    embedder_files: tuple[FileRecord, ...]
    reward: Mapping[str, Any]
    cost_kind: str
    expected_output_tokens: float
    prompt_set: Mapping[str, Any]
    created: Mapping[str, Any]
    uncertainty: FileRecord
    frontier: FileRecord
    models: tuple[ModelRecord, ...]
    features: FileRecord | None = None
    stack: tuple[float, ...] = (1.0,)
    tasks: tuple[tuple[str, ...], ...] = ()
    policy_files: tuple[FileRecord, ...] = ()
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = field(default=SCHEMA_VERSION)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        document = asdict(self)
        document["embedder"] = self.embedder.to_json()
        for record, model in zip(document["models"], self.models, strict=True):
            record["price"] = model.price.to_json()
            for name in ("parameters", "mean_weight"):
                if record[name] is None:
                    del record[name]
        return document

    @classmethod
    def from_json(cls, document: object, *, where: str) -> Manifest:
        """Check and read a manifest.

        Raises
        ------
        BundleError : a key is missing or of the wrong type, or the schema is newer; names the key
        """
        top = Section(document, f"{where}:", BundleError, remedy=_REMEDY)
        version = top.integer("schema_version", low=1)
        if version < SCHEMA_VERSION:
            raise BundleError(
                f"{where}: schema_version {version} was written by an earlier litellm-erp; this one reads "
                f"{SCHEMA_VERSION}. Fit it again: erp-train fit RUN --out BUNDLE"
            )
        if version > SCHEMA_VERSION:
            raise BundleError(
                f"{where}: schema_version {version} is newer than {SCHEMA_VERSION}, which this version of "
                "litellm-erp reads. Upgrade litellm-erp in the proxy, or fit with this version"
            )
        try:
            embedder = EmbedderSpec.from_json(dict(top.section("embedder").value))
        except EmbedderMismatch as e:
            raise BundleError(f"{where}: {e}") from e
        models = tuple(_model(entry) for entry in entries(top, "models", MAX_MODELS))
        _check_models(top, models)
        _check_embedder(top, embedder, len(models))
        return cls(
            policy=readable(top, "policy"),
            preset=readable(top, "preset"),
            safety=top.boolean("safety"),
            embedder=embedder,
            embedder_files=_embedder_files(top, embedder),
            reward=top.section("reward").value,
            cost_kind=top.choice("cost_kind", ("usd", "relative")),
            expected_output_tokens=top.number("expected_output_tokens", low=0.0, high=MAX_TOKENS),
            prompt_set=top.section("prompt_set").value,
            created=top.section("created").value,
            uncertainty=_file(top.section("uncertainty")),
            frontier=_file(top.section("frontier")),
            models=models,
            features=_shared_features(top),
            stack=tuple(_weights(top)),
            tasks=_tasks(top),
            policy_files=_files(top, "policy_files") if "policy_files" in top.value else (),
            policy_options=top.section("policy_options").value if "policy_options" in top.value else {},
            schema_version=version,
        )

    def files(self) -> tuple[FileRecord, ...]:
        """Every file that serving reads."""
        probes = (model.probe for model in self.models)
        shared = () if self.features is None else (self.features,)
        return (self.uncertainty, self.frontier, *shared, *probes, *self.policy_files, *self.embedder_files)


def entries(section: Section, key: str, most: int) -> list[Section]:
    """The maps in the list under a key.

    Raises
    ------
    BundleError : no list, more than ``most``, or something that is no map
    """
    found = section.list(key)
    if len(found) > most:
        raise section.wrong(key, f"{len(found)} entries", f"at most {most}")
    return [Section(entry, f"{section.at(key)}[{i}]", BundleError, remedy=_REMEDY) for i, entry in enumerate(found)]


def readable(section: Section, key: str, most: int = MAX_NAME) -> str:
    """Text that can stand in a header, a log line and on a terminal; any script, any sign.

    Raises
    ------
    BundleError : none, more than ``most`` characters, or control characters in it
    """
    found = section.text(key)
    if len(found) > most:
        raise section.wrong(key, found, f"at most {most} characters")
    if any(unicodedata.category(c) in _UNPRINTABLE for c in found):
        raise section.wrong(key, found, "text without control characters and line breaks")
    return found


def _model(entry: Section) -> ModelRecord:
    try:
        price = Price.from_json(entry.section("price").value, where=entry.where)
    except PricesError as e:
        raise BundleError(str(e)) from e
    by_category = entry.section("r2_by_category")
    return ModelRecord(
        name=readable(entry, "name"),
        probe=_file(entry.section("probe")),
        rows=entry.integer("rows", low=0, high=LARGEST),
        beta=entry.number("beta", low=0.0, high=LARGEST),
        mean_reward=entry.number("mean_reward", low=-LARGEST, high=LARGEST),
        r2=entry.optional_number("r2", low=-LARGEST, high=LARGEST),
        r2_by_category={category: by_category.optional_number(category) for category in by_category},
        price=price,
        constant_cost_usd=entry.optional_number("constant_cost_usd", low=0.0, high=LARGEST),
        stats=_files(entry, "stats"),
        parameters=None
        if entry.get("parameters") is None
        else checked(entry.get("parameters"), f"{entry.where}: parameters", BundleError),
        mean_weight=entry.optional_number("mean_weight", low=0.0, high=LARGEST),
    )


def _shared_features(top: Section) -> FileRecord | None:
    if "features" not in top:
        raise top.wrong("features", None, "a file, or null where models share none")
    return None if top.get("features") is None else _file(top.section("features"))


def _weights(top: Section) -> list[float]:
    found = top.list("stack")
    if not found or len(found) > MAX_SETS + 1:
        raise top.wrong("stack", f"{len(found)} weights", f"from 1 to {MAX_SETS + 1}")
    entry = Section({str(i): weight for i, weight in enumerate(found)}, top.at("stack"), BundleError, remedy=_REMEDY)
    return [entry.number(key, low=0.0, high=LARGEST) for key in entry]


def _tasks(top: Section) -> tuple[tuple[str, ...], ...]:
    found = top.list("tasks") if top.get("tasks") is not None else []
    names = [name for each in found for name in (each if isinstance(each, list) else [None])]
    if len(found) > MAX_FEATURES or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise top.wrong("tasks", found, f"at most {MAX_FEATURES} lists of categories, each category once")
    return tuple(tuple(each) for each in found)


def _check_models(top: Section, models: tuple[ModelRecord, ...]) -> None:
    names = [model.name for model in models]
    if not names or len(set(names)) != len(names):
        raise top.wrong("models", names, "at least one, each named once")


def _check_embedder(top: Section, embedder: EmbedderSpec, n_models: int) -> None:
    section = top.section("embedder")
    for key in ("id", "revision", "sha256", "url"):
        if section.get(key) is not None:
            readable(section, key, MAX_NAME * 4)
    section.integer("dimension", low=1, high=min(MAX_DIMENSION, MAX_WEIGHTS // n_models))
    section.integer("max_bytes", low=1, high=LARGEST)
    if embedder.max_tokens is not None:
        section.integer("max_tokens", low=1)


def _embedder_files(top: Section, embedder: EmbedderSpec) -> tuple[FileRecord, ...]:
    found = _files(top, "embedder_files")
    if found and embedder.kind not in CARRIED_KINDS:
        kinds = " or ".join(sorted(CARRIED_KINDS))
        raise top.wrong("embedder_files", f"files of an embedder of kind {embedder.kind}", f"none unless it is {kinds}")
    return found


def _file(entry: Section) -> FileRecord:
    record = FileRecord(
        readable(entry, "file"), entry.text("sha256"), entry.integer("bytes", low=0, high=MAX_FILE_BYTES)
    )
    parts = record.file.split("/")
    if record.file.startswith("/") or "\\" in record.file or any(part in ("", ".", "..") for part in parts):
        raise BundleError(f"{entry.where}: file {shown(record.file)} leaves the bundle's folder")
    if not _SHA256.fullmatch(record.sha256):
        raise entry.wrong("sha256", record.sha256, "64 digits of lower-case hex")
    return record


def _files(section: Section, key: str) -> tuple[FileRecord, ...]:
    return tuple(_file(entry) for entry in entries(section, key, MAX_MODELS))
