"""pool.yaml (docs/pool.md): what a whole run is made of, from prompts to bundle. Validated whole, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from litellm_erp.choice.cost import DEFAULT_OUTPUT_TOKENS, UNKNOWN_PRICE, Price
from litellm_erp.config_file import REFERENCE, from_environment, is_reference, secret_reference
from litellm_erp.config_section import Section
from litellm_erp.effort import LIMITS, PARAMETERS, checked, effort_of
from litellm_erp.errors import PricesError, SettingsError
from litellm_erp.yaml_file import read_yaml

ENGINES = ("server", "litellm", "vllm", "transformers", "ray")
# Those that ask an API, which can be told how much a model is to think.
_TOLD_EFFORT = ("server", "litellm")
# Tokens; the engines that are given it cut it to the model's context.
_AS_FAR_AS_THERE_IS_ROOM = 1 << 24


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are drawn: K per prompt, and the parameters every engine understands.

    Attributes
    ----------
    temperature, top_p, max_tokens, seed : None does not send it: the model's server decides
    seed : of the run; the seed of sample s of a prompt is derived from it, the prompt's id and s
    """

    k: int = 32
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    max_tokens: int | None = 512
    seed: int | None = 0

    def to_json(self) -> dict[str, Any]:
        """The exact parameters, for content keys and records."""
        return asdict(self)

    def stated(self) -> StatedSampling:
        """For an engine that needs every parameter; in place of None what changes nothing."""
        return StatedSampling(
            1.0 if self.temperature is None else self.temperature,
            1.0 if self.top_p is None else self.top_p,
            _AS_FAR_AS_THERE_IS_ROOM if self.max_tokens is None else self.max_tokens,
        )


@dataclass(frozen=True, slots=True)
class StatedSampling:
    """The parameters of one draw, none of them open."""

    temperature: float
    top_p: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class RaySettings:
    """The Ray cluster, and what a stage takes of it.

    Attributes
    ----------
    workers : replicas of vLLM when sampling; actors when scoring, embedding or fitting
    cpus_per_worker, gpus_per_worker : of an actor; a vLLM replica takes its ``bundles``
    """

    address: str = "auto"
    workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    bundles: tuple[Mapping[str, float], ...] = ()
    engine: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoolModel:
    """One pool member: weights, and what is put around them.

    Attributes
    ----------
    parameters : what every request to it is sent with, in the proxy too: how much it is to think, and its own limit
        of an answer, which is that of ``sampling`` then; see ``effort.PARAMETERS``
    base : where a relative folder in ``model`` starts
    """

    name: str
    model: str
    sampling: Sampling
    engine: str = "server"
    api_base: str | None = None
    api_key: str | None = field(default=None, repr=False)
    system_prompt: str | None = None
    price: Price = UNKNOWN_PRICE
    revision: str | None = None
    trust_remote_code: bool = False
    timeout_s: float = 300.0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    ray: RaySettings = RaySettings()
    base: Path = Path()

    @property
    def weights(self) -> str:
        """What an engine of this machine loads: the folder that ``model`` names, or else its name on the hub."""
        folder = self.base / self.model
        return str(folder.resolve()) if folder.is_dir() else self.model

    def secret(self) -> str | None:
        """The API key itself, read from the environment when it is needed.

        Raises
        ------
        SettingsError : the variable is not set
        """
        return None if self.api_key is None else self._from_environment("api_key", self.api_key)

    def served(self) -> PoolModel:
        """This model with its URL, which may stand in the environment as in a LiteLLM config.

        Raises
        ------
        SettingsError : the variable is not set
        """
        if self.api_base is None or not is_reference(self.api_base):
            return self
        return replace(self, api_base=self._from_environment("api_base", self.api_base))

    def _from_environment(self, key: str, reference: str) -> str:
        where = f"models.{self.name}.{key}"
        found = from_environment(reference, where)
        if not found:
            raise SettingsError(f"{where}: environment variable {reference.removeprefix(REFERENCE)} is empty")
        return found

    def identity(self) -> dict[str, Any]:
        """What decides the text of its responses, beside ``sampling``; where it is served does not."""
        effort = effort_of(self.parameters)
        own = {"model": self.model, "revision": self.revision, "system_prompt": self.system_prompt}
        return {**own, "parameters": effort} if effort else own


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """One reward model of the run: its kind in the registry, its name, its weight, and the kind's own options.

    Attributes
    ----------
    base : where relative folders among the options start
    """

    kind: str
    name: str
    weight: float
    options: Mapping[str, Any]
    base: Path = Path()


@dataclass(frozen=True, slots=True)
class Pool:
    """The whole of pool.yaml."""

    source: Path
    run: Path
    bundle: Path
    prompts: Mapping[str, Any]
    models: Mapping[str, PoolModel]
    rewards: tuple[RewardSpec, ...]
    embedder: str
    preset: str
    refit_all: bool
    expected_output_tokens: int
    ray: RaySettings = RaySettings()

    def on_ray(self, address: str | None = None) -> Pool:
        """This pool with every model sampled on a Ray cluster; the keys of its samples stay the same.

        Raises
        ------
        SettingsError : a model is to be told how much to think, which only an API can be
        """
        for name, model in self.models.items():
            _check_engine(f"{self.source}: models.{name}", "ray", model.parameters)
        ray = self.ray if address is None else replace(self.ray, address=address)
        models = {name: replace(model, engine="ray", ray=ray) for name, model in self.models.items()}
        return replace(self, models=models, ray=ray)

    def prices(self) -> dict[str, Price]:
        """Stated prices by pool model."""
        return {name: model.price for name, model in self.models.items() if model.price.known}


def load(path: Path | str) -> Pool:
    """Read and validate a pool file.

    Raises
    ------
    SettingsError : names the file and the key
    """
    source = Path(path)
    document = read_yaml(source, SettingsError)
    top = Section(document, f"{source}:", SettingsError, _KEYS)
    ray = _ray(top.section("ray", set(RaySettings.__dataclass_fields__), default={}))
    sampling_section = top.section("sampling", {"engine", *Sampling.__dataclass_fields__}, default={})
    sampling = _sampling(sampling_section, Sampling())
    engine = sampling_section.choice("engine", ENGINES, "server")
    models = top.section("models")
    fit = top.section("fit", {"preset", "refit_all"}, default={})
    return Pool(
        source=source,
        run=source.parent / top.text("run", "run"),
        bundle=source.parent / top.text("bundle", "bundle"),
        prompts=dict(top.section("prompts").value),
        models={
            name: replace(
                _model(name, models.section(name, _MODEL_KEYS), sampling, engine), ray=ray, base=source.parent
            )
            for name in models
        },
        rewards=_rewards(top, source.parent),
        embedder=top.text("embedder", "static"),
        preset=fit.choice("preset", ("best", "paper"), "best"),
        refit_all=fit.boolean("refit_all", False),
        expected_output_tokens=top.integer("expected_output_tokens", DEFAULT_OUTPUT_TOKENS, low=1),
        ray=ray,
    )


_KEYS = {
    "run", "bundle", "prompts", "sampling", "models", "rewards", "embedder", "fit", "expected_output_tokens", "ray"
}  # fmt: skip
# Of the limit's two names one does: an API that wants the other is sent that.
_PARAMETERS = [name for name in PARAMETERS if name != LIMITS[1]]
_MODEL_KEYS = {field.name for field in fields(PoolModel)} - {"name", "ray", "base", "parameters"} | {*_PARAMETERS}


def _model(name: str, section: Section, sampling: Sampling, engine: str) -> PoolModel:
    try:
        price = Price.from_json(section.section("price", default={}).value, where=section.at("price"))
    except PricesError as e:
        raise SettingsError(str(e)) from e
    own = section.section("sampling", set(Sampling.__dataclass_fields__), default={})
    engine = section.choice("engine", ENGINES, engine)
    parameters = _parameters(section, own, engine)
    drawn = _sampling(own, sampling)
    if "max_tokens" in parameters:
        drawn = replace(drawn, max_tokens=parameters["max_tokens"])
    _check_room(section, parameters, drawn)
    return PoolModel(
        name=name,
        model=section.text("model"),
        sampling=drawn,
        engine=engine,
        parameters=parameters,
        api_base=section.optional_text("api_base"),
        api_key=secret_reference(section, "api_key", "POOL_API_KEY"),
        system_prompt=section.optional_text("system_prompt"),
        price=price,
        revision=section.optional_text("revision"),
        trust_remote_code=section.boolean("trust_remote_code", False),
        timeout_s=section.number("timeout_s", 300.0, low=0.001),
    )


def _parameters(section: Section, sampling: Section, engine: str) -> dict[str, Any]:
    stated = {name: section.get(name) for name in _PARAMETERS if section.get(name) is not None}
    parameters = checked(stated, section.where, SettingsError)
    if "max_tokens" in parameters and "max_tokens" in sampling:
        raise SettingsError(f"{section.at('max_tokens')}: sampling.max_tokens is stated too; keep one of them")
    _check_engine(section.where, engine, parameters)
    return parameters


def _check_engine(where: str, engine: str, parameters: Mapping[str, Any]) -> None:
    if engine not in _TOLD_EFFORT and (effort := list(effort_of(parameters))):
        raise SettingsError(
            f"{where}: engine {engine} cannot send {' and '.join(effort)}, without which this is another model; serve "
            f"it and take engine: {' or '.join(_TOLD_EFFORT)}"
        )


def _check_room(section: Section, parameters: Mapping[str, Any], sampling: Sampling) -> None:
    budget = parameters.get("thinking", {}).get("budget_tokens")
    if budget is not None and sampling.max_tokens is not None and sampling.max_tokens <= budget:
        raise SettingsError(
            f"{section.at('thinking')}: max_tokens {sampling.max_tokens} of its sampling leaves no answer beside a "
            f"budget of {budget} tokens; state sampling: {{max_tokens: …}} above it, or null"
        )


def _ray(section: Section) -> RaySettings:
    bundles = section.list("bundles") if section.get("bundles") is not None else []
    if not all(isinstance(b, dict) and all(isinstance(n, int | float) for n in b.values()) for b in bundles):
        raise section.wrong("bundles", bundles, "a list of resources, such as [{GPU: 1, CPU: 1}]")
    return RaySettings(
        address=section.text("address", "auto"),
        workers=section.integer("workers", 1, low=1),
        cpus_per_worker=section.integer("cpus_per_worker", 1, low=0),
        gpus_per_worker=section.number("gpus_per_worker", 0.0, low=0.0),
        bundles=tuple(dict(b) for b in bundles),
        engine=dict(section.section("engine", default={}).value),
    )


def _sampling(section: Section, base: Sampling) -> Sampling:
    # A number where the file states one, None where it says null, and the base's where it says nothing.
    found: dict[str, Any] = {
        "temperature": lambda: section.number("temperature", low=0.0),
        "top_p": lambda: section.number("top_p", low=0.0, high=1.0),
        "max_tokens": lambda: section.integer("max_tokens", low=1),
        "seed": lambda: section.integer("seed", low=0),
    }
    stated = {name: None if section.value[name] is None else read() for name, read in found.items() if name in section}
    return replace(base, k=section.integer("k", base.k, low=1), **stated)


def _rewards(top: Section, base: Path) -> tuple[RewardSpec, ...]:
    listed = top.list("rewards")
    if not listed:
        raise top.wrong("rewards", listed, "at least one reward model")
    specs = []
    for i, entry in enumerate(listed):
        section = Section(entry, f"{top.at('rewards')}[{i}]", SettingsError)
        kind = section.text("kind")
        options = {key: value for key, value in section.value.items() if key not in ("kind", "name", "weight")}
        name = section.text("name", str(options.get("model", kind)))
        specs.append(RewardSpec(kind, name, section.number("weight", 1.0, low=0.0), options, base))
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise SettingsError(f"{top.at('rewards')}: two have the same name; give each a name of its own")
    return tuple(specs)
