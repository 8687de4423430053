"""/embeddings: a hashed bag of words."""

import base64
import zlib

import numpy as np
import numpy.typing as npt

from demo.stub.call import Call, Json

DIMENSION = 64


def embed(text: str, dimension: int = DIMENSION) -> npt.NDArray[np.float32]:
    """Texts that share words are near each other; shape (dimension,), float32, L2-normalised."""
    vector = np.zeros(dimension, dtype=np.float32)
    for word in text.lower().split() or [""]:
        code = zlib.crc32(word.encode(errors="replace"))
        vector[code % dimension] += 1.0 if code & 0x8000_0000 else -1.0
    norm = float(np.linalg.norm(vector))
    if norm == 0.0:
        vector[0] = norm = 1.0
    return (vector / norm).astype(np.float32)


def embeddings(call: Call) -> Json:
    """The body of an answer, with the mode's fault in it."""
    sent = call.body.get("input")
    dimension = int(call.body.get("dimensions") or DIMENSION) - (call.mode.kind == "wrong_shape")
    vectors = [embed(str(text), dimension) for text in (sent if isinstance(sent, list) else [sent])]
    if call.mode.kind == "nan":
        vectors = [np.full_like(vector, np.nan) for vector in vectors]
    as_base64 = call.body.get("encoding_format") == "base64"
    shown = [base64.b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist() for vector in vectors]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(shown)]
    usage = {"prompt_tokens": call.prompt_tokens, "total_tokens": call.prompt_tokens}
    return {"object": "list", "model": call.body.get("model"), "data": data, "usage": usage}
