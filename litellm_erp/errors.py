"""Every error this product raises on purpose.

::

    ErpError
    ├── OutcomesError      (ValueError)    an outcomes table that cannot be used
    │   └── BadRowsError                   some of its rows cannot be used; the others can
    ├── PromptError        (ValueError)    a prompt that cannot be read
    ├── PricesError        (ValueError)    a price file that cannot be used
    ├── SettingsError      (ValueError)    erp_settings that cannot be used
    ├── BudgetFileError    (ValueError)    a budget file that is none, or that is not given back
    ├── DecisionLogError   (ValueError)    a line of a decision log that is none
    ├── RunError           (RuntimeError)  a run folder that cannot be used
    ├── SamplingError      (RuntimeError)  a pool model that cannot be sampled
    ├── FitError           (ValueError)    data from which no probe can be fitted
    ├── BundleError        (ValueError)    a bundle that must not be loaded
    │   ├── BundleNotFound     (FileNotFoundError)
    │   ├── BundleTampered                 a file's bytes are not those the manifest recorded
    │   └── EmbedderMismatch               probes and embedder do not belong together
    ├── EmbeddingError     (RuntimeError)  an embedder that did not deliver
    │   ├── EmbedderUnavailable            a missing extra, model or server
    │   └── EmbeddingTimeout   (TimeoutError)
    ├── RewardError        (RuntimeError)  a reward model that did not deliver
    └── ServingError       (RuntimeError)  a local process of the demo or the tests failed

A message says what was wrong, what was found, what was expected and what to do.
"""

from typing import Any


class ErpError(Exception):
    """Root of the tree; the command line turns it into one line and an exit code."""

    exit_code = 2


class OutcomesError(ErpError, ValueError):
    """An outcomes table breaks contract 1; the message names the file and the row."""


class BadRowsError(OutcomesError):
    """Rows that cannot be used; the message is about the first of them.

    Attributes
    ----------
    what : what is wrong with them, in a few words
    bad_N : shape (N,), bool, of the table's rows
    """

    def __init__(self, message: str, *, what: str, bad_N: Any) -> None:
        super().__init__(message)
        self.what = what
        self.bad_N = bad_N


class PromptError(ErpError, ValueError):
    """A prompt file or a chat message list cannot be read."""


class PricesError(ErpError, ValueError):
    """A price file is malformed or states a negative price."""


class SettingsError(ErpError, ValueError):
    """``erp_settings`` is malformed; the message names the key."""


class BudgetFileError(ErpError, ValueError):
    """A budget file is not ours, or another process keeps it; the proxy goes on without it and says so."""


class DecisionLogError(ErpError, ValueError):
    """A line of a decision log is torn or breaks its contract; a reader leaves it out."""


class RunError(ErpError, RuntimeError):
    """A run folder is missing, incomplete or in use."""


class SamplingError(ErpError, RuntimeError):
    """A pool model cannot be sampled: its server, its name, its key or its weights; what is recorded stays."""

    exit_code = 1


class FitError(ErpError, ValueError):
    """No probe can be fitted from the data at hand."""


class BundleError(ErpError, ValueError):
    """A bundle is malformed; the message names the file."""


class BundleNotFound(BundleError, FileNotFoundError):
    """There is no bundle at the path."""


class BundleTampered(BundleError):
    """A file is truncated or its hash differs from the manifest's."""


class EmbedderMismatch(BundleError):
    """The embedder at hand is not the one the probes were fitted on."""


class EmbeddingError(ErpError, RuntimeError):
    """An embedder raised, or returned something that is no embedding."""

    exit_code = 1


class EmbedderUnavailable(EmbeddingError):
    """An embedder cannot start: a missing extra, model or server."""


class EmbeddingTimeout(EmbeddingError, TimeoutError):
    """An embedder did not answer in time."""


class RewardError(ErpError, RuntimeError):
    """A reward model does not load, answers nonsense, or its server is away."""

    exit_code = 1


class ServingError(ErpError, RuntimeError):
    """A local process did not start, or stopped."""

    exit_code = 1
