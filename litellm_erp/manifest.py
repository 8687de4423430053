"""PURE. manifest.json: what a bundle says about itself, and the checks on what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from litellm_erp.cost import Price
from litellm_erp.embedding.base import EmbedderSpec
from litellm_erp.errors import BundleError, EmbedderMismatch, PricesError
from litellm_erp.section import Section

SCHEMA_VERSION = 1
POLICIES = ("erp", "zooter", "benchmark", "pairwise")
_REMEDY = ". The file is not a whole manifest; copy or fit the bundle again"


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
    task_beta : penalty of the part that predicts task means, where the probe has one; ``beta`` is then that of the rest
    mean_reward : over its training outcomes, in reward units; what safety leans towards
    r2, r2_by_category : out of fold; None where the rewards do not vary
    price : as stated or found; empty when unknown
    constant_cost_usd : a cost that replaces the expected cost of a request (the ``paper`` preset)
    stats : files under stats/ for updating; may be absent
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
    task_beta: float | None = None
    stats: tuple[FileRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole of manifest.json.

    ``policy_files`` and ``policy_options`` are what other policies than ERP keep and were fitted with.
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
    policy_files: tuple[FileRecord, ...] = ()
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = field(default=SCHEMA_VERSION)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        document = asdict(self)
        document["embedder"] = self.embedder.to_json()
        for record, model in zip(document["models"], self.models, strict=True):
            record["price"] = model.price.to_json()
        return document

    @classmethod
    def from_json(cls, document: object, *, where: str) -> Manifest:
        """Check and read a manifest.

        Raises
        ------
        BundleError : a key is missing or of the wrong type, or the schema is newer; names the key
        """
        top = Section(document, f"{where}:", BundleError, remedy=_REMEDY)
        version = top.integer("schema_version")
        if version > SCHEMA_VERSION:
            raise BundleError(
                f"{where}: schema_version {version} is newer than {SCHEMA_VERSION}, which this version of "
                "litellm-erp reads. Upgrade litellm-erp in the proxy, or fit with this version"
            )
        try:
            embedder = EmbedderSpec.from_json(dict(top.section("embedder").value))
        except EmbedderMismatch as e:
            raise BundleError(f"{where}: {e}") from e
        models = tuple(_model(entry) for entry in _entries(top, "models"))
        names = [model.name for model in models]
        if not names or len(set(names)) != len(names):
            raise top.wrong("models", names, "at least one, each named once")
        return cls(
            policy=top.choice("policy", POLICIES),
            preset=top.text("preset"),
            safety=top.boolean("safety"),
            embedder=embedder,
            embedder_files=_files(top, "embedder_files"),
            reward=top.section("reward").value,
            cost_kind=top.choice("cost_kind", ("usd", "relative")),
            expected_output_tokens=top.number("expected_output_tokens", low=0.0),
            prompt_set=top.section("prompt_set").value,
            created=top.section("created").value,
            uncertainty=_file(top.section("uncertainty")),
            frontier=_file(top.section("frontier")),
            models=models,
            policy_files=_files(top, "policy_files") if "policy_files" in top.value else (),
            policy_options=top.section("policy_options").value if "policy_options" in top.value else {},
            schema_version=version,
        )

    def files(self) -> tuple[FileRecord, ...]:
        """Every file that serving reads."""
        probes = (model.probe for model in self.models)
        return (self.uncertainty, self.frontier, *probes, *self.policy_files, *self.embedder_files)


def _model(entry: Section) -> ModelRecord:
    try:
        price = Price.from_json(entry.section("price").value, where=entry.where)
    except PricesError as e:
        raise BundleError(str(e)) from e
    return ModelRecord(
        name=entry.text("name"),
        probe=_file(entry.section("probe")),
        rows=entry.integer("rows"),
        beta=entry.number("beta"),
        mean_reward=entry.number("mean_reward"),
        r2=entry.optional_number("r2"),
        r2_by_category=entry.section("r2_by_category").value,
        price=price,
        constant_cost_usd=entry.optional_number("constant_cost_usd"),
        task_beta=entry.optional_number("task_beta"),
        stats=_files(entry, "stats"),
    )


def _file(entry: Section) -> FileRecord:
    record = FileRecord(entry.text("file"), entry.text("sha256"), entry.integer("bytes", low=0))
    parts = record.file.split("/")
    if record.file.startswith("/") or "\\" in record.file or any(part in ("", ".", "..") for part in parts):
        raise BundleError(f"{entry.where}: file {record.file!r} leaves the bundle's folder")
    return record


def _files(section: Section, key: str) -> tuple[FileRecord, ...]:
    return tuple(_file(entry) for entry in _entries(section, key))


def _entries(section: Section, key: str) -> list[Section]:
    return [
        Section(entry, f"{section.at(key)}[{i}]", BundleError, remedy=_REMEDY)
        for i, entry in enumerate(section.list(key))
    ]
