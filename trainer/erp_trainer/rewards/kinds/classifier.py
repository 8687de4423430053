"""Kind ``classifier``: any one-label sequence classifier.

Fed a chat where its tokenizer has a chat template, else a text pair; ``form: chat`` or ``form: pair`` overrides.
"""

from __future__ import annotations

from erp_trainer.rewards.base import RewardOptions
from erp_trainer.rewards.kinds.chat_template import chat_form
from erp_trainer.rewards.kinds.text_pair import PairForm
from erp_trainer.rewards.local import Form, LocalModel


class Classifier(LocalModel):
    """Text pair or chat template, whichever its tokenizer is made for."""

    def make_form(self, options: RewardOptions) -> Form:
        has_template = bool(getattr(self.tokenizer, "chat_template", None))
        form = options.choice("form", ("pair", "chat"), "chat" if has_template else "pair")
        return PairForm(self.tokenizer) if form == "pair" else chat_form(self, options)
