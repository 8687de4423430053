"""PURE. What devices say when they run out of memory."""

from __future__ import annotations

_MESSAGES = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "cpuallocator")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device ran out of memory: CUDA's own error, or the RuntimeError of torch's CPU allocator."""
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _MESSAGES)
