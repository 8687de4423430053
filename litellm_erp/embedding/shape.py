"""What a prompt looks like, beside what its words mean: sixteen numbers. Pure.

A mean of word vectors forgets how long a text is, and knows nothing of line breaks, capitals, digits or code.
Rewards depend on these, because they tell tasks apart.

Invariant: the two parts of `shape_of` have the lengths they are asked for, whatever the text, so that what is appended
to a vector of unit length weighs the same for every prompt.
"""

import math

from litellm_erp.choice.prompt import MAX_BYTES

# A change here changes every vector: give it a new name, which is part of the embedder's hash.
VERSION = "bytes-1"
_CLASSES = (
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    b"0123456789",
    b"\n",
    b" \t\r",
    b"{}[];=_<>|&#@`",
    b"$\\^+*/%~",
    b"?",
    b".",
    b",",
    b"()",
    b":-",
    b"'\"!",
    bytes(range(128, 256)),
)
N_CLASSES = len(_CLASSES) + 1
DIMENSION = N_CLASSES + 2

# Every byte's class, those of class 0 left out: what remains is short, and counted class by class. A histogram by numpy
# takes five calls and, where LiteLLM has emptied the caches, four times as long.
_CLASS_OF_BYTE = bytes(next((i for i, members in enumerate(_CLASSES, 1) if b in members), 0) for b in range(256))
_OF_NO_CLASS = bytes(b for b in range(256) if not _CLASS_OF_BYTE[b])
_LONGEST_LOG = math.log1p(MAX_BYTES)
_ANGLE_PER_LOG = math.pi / 2 / _LONGEST_LOG


def shape_of(data: bytes, share_weight: float, length_weight: float) -> list[float]:
    """Shares of fourteen classes of bytes, and the length.

    Parameters
    ----------
    data : UTF-8 of a text, not empty
    share_weight, length_weight : squared length of either part

    Returns
    -------
    16 numbers: the square roots of the shares; cosine and sine of an angle that grows with the log of the length, a
    right angle at ``MAX_BYTES``

    Source: ours. Square roots make a share's noise the same at every size (Hellinger); an angle keeps unit length.
    """
    classes, sqrt, share = data.translate(_CLASS_OF_BYTE, _OF_NO_CLASS), math.sqrt, share_weight / len(data)
    shape = [sqrt(count * share) for count in map(classes.count, range(1, N_CLASSES))]
    shape.insert(0, sqrt((len(data) - len(classes)) * share))
    angle = min(math.log1p(len(data)), _LONGEST_LOG) * _ANGLE_PER_LOG
    scale = sqrt(length_weight)
    shape.append(scale * math.cos(angle))
    shape.append(scale * math.sin(angle))
    return shape
