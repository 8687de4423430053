"""What a remote model is sent beside its messages, less what it has refused by name.

Providers differ: some refuse temperature together with top_p, some any temperature, some want max_completion_tokens.
Neutral values are therefore left out where they are the default, and a parameter that is refused by name is left out,
or sent under its other name, from then on.

Invariant: a request is sent again only without something that it held, so that there are a handful of tries at most.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from erp_trainer.pool.pool import Sampling
from litellm_erp.errors import SamplingError

# As APIs understand a parameter that is not sent.
_NEUTRAL = {"temperature": 1.0, "top_p": 1.0}
_OTHER_NAMES = {"max_tokens": "max_completion_tokens"}
# What else a provider may call it, behind a gateway that translates names.
_ALSO_CALLED = {
    "top_p": ("topP", "top-p", "p"),
    "max_tokens": ("maxTokens", "max_output_tokens", "maxOutputTokens", "max_new_tokens"),
    "max_completion_tokens": ("maxCompletionTokens",),
    "seed": ("random_seed",),
}
_NOT_TAKEN = re.compile(
    r"unsupported|(not|n't|n’t|no longer) (be )?(support|permit|allow|accept|recogni|available|take)|deprecated|removed"
    r"|cannot (both )?(be )?(specif|used|set)|can't (both )?be"
    r"|(unknown|unrecogni[sz]ed|unexpected|extraneous|extra) "
    r"(request )?(name|key|field|input|parameter|argument|property)"
    r"|extra_forbidden|additional properties|not a valid (field|parameter)|only the default|only one|mutually exclusive"
    r"|only \d[\d.]* is (supported|allowed|accepted)|incompatible|cannot find field",
    re.IGNORECASE,
)
_ONE_OF_THEM = re.compile(
    r"\bboth\b|only one|one of|\beither\b|together|simultaneous|mutually|at the same time|combin", re.IGNORECASE
)
# Of several that exclude each other the first is given up.
_GIVEN_UP_FIRST = ("top_k", "min_p", "top_p", "temperature")


class Parameters:
    """The parameters of one model.

    Parameters
    ----------
    states_all : send neutral values too: a server of one's own would fill in the model's ``generation_config.json``
    extras : sent with every request
    fixed : sent with every request too, and never left out: without them it would be another model's answer
    where : the model's place in the pool file, for messages

    Attributes
    ----------
    adjusted : what is not sent as configured: name to the name that it is sent under, None where it is left out
    """

    def __init__(
        self,
        *,
        states_all: bool = False,
        extras: Mapping[str, Any] | None = None,
        fixed: Mapping[str, Any] | None = None,
        where: str = "",
    ) -> None:
        self._states_all = states_all
        self._extras = dict(extras or {})
        self._fixed = dict(fixed or {})
        self._where = where
        self.adjusted: dict[str, str | None] = {}

    def sent(self, sampling: Sampling, seed: int | None) -> dict[str, Any]:
        """The body's parameters; what is None is not sent."""
        stated = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": seed,
            **self._extras,
            **self._fixed,
        }
        body: dict[str, Any] = {}
        for name, value in stated.items():
            neutral = not self._states_all and value == _NEUTRAL.get(name)
            under = self.adjusted.get(name, name)
            if value is not None and not neutral and under is not None:
                body[under] = value
        return body

    def learn(self, sent: Mapping[str, Any], message: str, param: str | None = None) -> bool:
        """Learn from a refusal.

        Parameters
        ----------
        sent : the parameters of the request that was refused
        message, param : what the provider says, and the parameter that it names apart from that

        Returns
        -------
        whether to send the request again; something that it held will be missing or have another name

        Raises
        ------
        SamplingError : it is one of the fixed parameters that is refused
        """
        if not _NOT_TAKEN.search(message):
            return False
        named = [name for name in sent if _names(name, message, param)]
        if any(self._is_given_up(name) for name in named):
            return True  # another request has learned it meanwhile
        if len(named) > 1 and _ONE_OF_THEM.search(message):
            named = [next((name for name in _GIVEN_UP_FIRST if name in named), named[0])]
        free = [name for name in named if not self._is_fixed(name)]
        if named and not free:
            stated = ", ".join(named)
            raise SamplingError(
                f"{self._where}: the provider refuses {stated} ({message[:200]}); a model without it is another "
                "one. Correct it, or take it out of the pool file"
            )
        for name in free:
            self._give_up(name, message)
        return bool(free)

    def _is_fixed(self, name: str) -> bool:
        """Whether a model is not itself without what is sent under a name; a limit may have another name once."""
        return (name in self._fixed and name not in _OTHER_NAMES) or self._other(name) in self._fixed

    def _other(self, name: str) -> str | None:
        """The name of the pool file for what is sent under a second one."""
        return next((own for own, other in _OTHER_NAMES.items() if other == name), None)

    def _is_given_up(self, name: str) -> bool:
        return name in self.adjusted and self.adjusted[name] != name

    def _give_up(self, name: str, message: str) -> None:
        configured = self._other(name) or name
        other = _OTHER_NAMES.get(name)
        self.adjusted[configured] = other if other is not None and configured == name else None


def said(adjusted: Mapping[str, str | None]) -> str:
    """What was adjusted, for people; empty where nothing was."""
    return ", ".join(
        f"{name} is sent as {other}" if other else f"{name} is left out" for name, other in sorted(adjusted.items())
    )


def _names(name: str, message: str, param: str | None) -> bool:
    called = (name, *_ALSO_CALLED.get(name, ()))
    if param is not None and param.rpartition(".")[2] in called:
        return True
    # A single letter is a name only as `param`.
    words = "|".join(re.escape(word) for word in called if len(word) > 1)
    return re.search(rf"(?<![\w-])({words})(?![\w-])", message, re.IGNORECASE) is not None
