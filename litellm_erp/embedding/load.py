"""From a name or a spec to a running embedder."""

from functools import cache
from pathlib import Path

from litellm_erp.embedding.base import Embedder, EmbedderSpec
from litellm_erp.errors import EmbedderMismatch
from litellm_erp.shown import shown

DEFAULT_TIMEOUT_S = 10.0


def load_embedder(
    name: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    api_key: str | None = None,
    model: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Embedder:
    """Load an embedder by name.

    Parameters
    ----------
    name : ``"static"``; a sentence-transformers id or local directory; or the URL of an OpenAI-compatible server,
        with or without ``/v1/embeddings``
    revision : of a sentence-transformers id
    trust_remote_code : run code that the model's repository contains; needs a `revision`
    api_key : of an endpoint, the key itself
    model : the model name to send to an endpoint
    timeout_s : seconds an endpoint has to answer

    Raises
    ------
    EmbedderUnavailable : the extra, model or server is missing; the message says what to do
    """
    if name == "static":
        return _shipped()
    if name.startswith(("http://", "https://")):
        from litellm_erp.embedding.endpoint import EndpointEmbedder

        return EndpointEmbedder(name, model=model, api_key=api_key, timeout_s=timeout_s)
    from litellm_erp.embedding.transformer import TransformerEmbedder

    return TransformerEmbedder(name, revision=revision, trust_remote_code=trust_remote_code)


def embedder_from_spec(
    spec: EmbedderSpec,
    *,
    trust_remote_code: bool = False,
    api_key: str | None = None,
    url: str | None = None,
    directory: Path | str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Embedder:
    """Load the embedder that probes were fitted on.

    Parameters
    ----------
    spec : from the bundle's manifest
    trust_remote_code : as for `load_embedder`; never taken from a bundle
    api_key : of an endpoint
    url : of an endpoint that has moved since the fit
    directory : the model's files, where they have moved or the bundle carries its own; they must have the
        sha256 of the spec
    timeout_s : seconds an endpoint has to answer

    Raises
    ------
    EmbedderMismatch : what was loaded is not what the spec names
    EmbedderUnavailable : it cannot be loaded at all
    """
    if spec.kind == "static":
        shipped = _shipped()
        if directory is None or spec.sha256 == shipped.spec.sha256:
            return _same(shipped, spec)
        return _same(_static(Path(directory)), spec)
    if spec.kind == "transformer":
        from litellm_erp.embedding.transformer import TransformerEmbedder

        name = str(directory or spec.id)
        return _same(TransformerEmbedder(name, revision=spec.revision, trust_remote_code=trust_remote_code), spec)
    if spec.kind == "endpoint":
        from litellm_erp.embedding.endpoint import EndpointEmbedder

        where = url or spec.url
        if where is None:
            raise EmbedderMismatch(f"embedder {spec.id!r} has no url. Set embedder.url in erp_settings")
        model = spec.id.removeprefix("endpoint:")
        return EndpointEmbedder(where, model=model, api_key=api_key, timeout_s=timeout_s, spec=spec)
    raise EmbedderMismatch(
        f"embedder kind is {shown(spec.kind)}; expected static, transformer or endpoint. "
        "The bundle may come from a newer version of litellm-erp"
    )


@cache
def _shipped() -> Embedder:
    # Bundles share it: it takes 36 MB and nothing in it changes but its memory of words.
    from litellm_erp.embedding.static import MODEL_DIR

    return _static(MODEL_DIR)


def _static(directory: Path) -> Embedder:
    from litellm_erp.embedding.static import StaticEmbedder

    return StaticEmbedder(directory)


def _same(embedder: Embedder, spec: EmbedderSpec) -> Embedder:
    found = embedder.spec
    for key in ("dimension", "sha256", "revision", "max_tokens", "normalised"):
        wanted, got = getattr(spec, key), getattr(found, key)
        if wanted is not None and wanted != got:
            embedder.close()
            raise EmbedderMismatch(
                f"the probes were fitted on embedder {spec.id!r} with {key} {wanted!r}; the one loaded is "
                f"{found.id!r} with {got!r}. Install the version of litellm-erp or of the model that the bundle was "
                "made with, or fit the bundle again"
            )
    return embedder
