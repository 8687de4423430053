"""PURE. Questions with known answers, of kinds that models of a few hundred million parameters differ on.

A response is right where its first line has the answer as a word (:data:`RIGHT`): a base model goes on with questions
of its own after that line. No question holds its answer.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# As the pool file's verifier has it; the answer stands for {reference}.
RIGHT = r"(?i)\A\s*[^\n]*(?<!\w){reference}(?!\w)"

_CAPITALS = {
    "France": "Paris", "Japan": "Tokyo", "Italy": "Rome", "Egypt": "Cairo", "Spain": "Madrid", "Germany": "Berlin",
    "Russia": "Moscow", "Greece": "Athens", "Norway": "Oslo", "Cuba": "Havana", "Peru": "Lima", "Kenya": "Nairobi",
    "Sweden": "Stockholm", "Poland": "Warsaw", "Portugal": "Lisbon", "Austria": "Vienna", "Ireland": "Dublin",
    "Thailand": "Bangkok", "Iraq": "Baghdad", "Iran": "Tehran", "Finland": "Helsinki", "Denmark": "Copenhagen",
    "Hungary": "Budapest", "Canada": "Ottawa", "Belgium": "Brussels", "Turkey": "Ankara", "Vietnam": "Hanoi",
    "Argentina": "Buenos Aires", "Chile": "Santiago", "Australia": "Canberra", "Ukraine": "Kyiv", "Syria": "Damascus",
}  # fmt: skip
_OPPOSITES = {
    "hot": "cold", "up": "down", "fast": "slow", "early": "late", "rich": "poor", "wet": "dry", "hard": "soft",
    "full": "empty", "happy": "sad", "strong": "weak", "light": "dark", "day": "night", "north": "south",
    "win": "lose", "buy": "sell", "push": "pull", "true": "false", "left": "right", "inside": "outside",
    "above": "below", "first": "last", "love": "hate", "war": "peace", "black": "white", "good": "bad",
    "high": "low", "long": "short", "clean": "dirty", "young": "old", "thick": "thin", "deep": "shallow",
    "loud": "quiet",
}  # fmt: skip
_PLURALS = {
    "child": "children", "mouse": "mice", "foot": "feet", "city": "cities", "leaf": "leaves", "box": "boxes",
    "man": "men", "tooth": "teeth", "baby": "babies", "wolf": "wolves", "woman": "women", "knife": "knives",
    "party": "parties", "bus": "buses", "dish": "dishes", "story": "stories", "potato": "potatoes", "wife": "wives",
    "berry": "berries", "church": "churches", "person": "people", "country": "countries", "shelf": "shelves",
    "match": "matches", "lady": "ladies", "half": "halves", "hero": "heroes", "glass": "glasses", "army": "armies",
    "life": "lives", "cherry": "cherries", "fox": "foxes",
}  # fmt: skip
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WORDS = (
    "banana", "river", "table", "monkey", "garden", "window", "purple", "kitten", "school", "dragon", "rocket",
    "forest", "bottle", "hammer", "pencil", "silver", "tomato", "winter", "yellow", "market", "doctor", "flower",
    "guitar", "jacket", "ladder", "mirror", "needle", "pirate", "rabbit", "spider", "turtle", "violin",
)  # fmt: skip

_Made = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """One question, its kind, and its answer."""

    prompt_id: str
    prompt: str
    category: str
    reference: str


def questions(per_kind: int, seed: int = 0) -> list[Question]:
    """Different questions, as many of each kind, the kinds in turn.

    Parameters
    ----------
    per_kind : at most 32
    """
    made: dict[str, dict[str, str]] = {}
    for kind, make in KINDS.items():
        rng, found = random.Random(f"{seed} {kind}"), made.setdefault(kind, {})
        while len(found) < per_kind:
            prompt, answer = make(rng)
            found.setdefault(prompt, answer)
    return [
        Question(f"{kind}-{i}", prompt, kind, answer)
        for i in range(per_kind)
        for kind, found in made.items()
        for prompt, answer in [list(found.items())[i]]
    ]


def _of(table: Mapping[str, str], text: str) -> Callable[[random.Random], _Made]:
    def make(rng: random.Random) -> _Made:
        word = rng.choice(list(table))
        return text.format(word), table[word]

    return make


def _sum(rng: random.Random) -> _Made:
    a, b = rng.randint(2, 20), rng.randint(2, 20)
    return f"What is {a} plus {b}?", str(a + b)


def _sequence(rng: random.Random) -> _Made:
    first, step = rng.randint(1, 30), rng.randint(1, 5)
    return f"Continue: {', '.join(str(first + step * i) for i in range(5))},", str(first + 5 * step)


def _calendar(rng: random.Random) -> _Made:
    names, what = rng.choice(((_MONTHS, "month"), (_DAYS, "day")))
    i, (word, step) = rng.randrange(len(names)), rng.choice((("after", 1), ("before", -1)))
    return f"Which {what} comes {word} {names[i]}?", names[(i + step) % len(names)]


def _first_letter(rng: random.Random) -> _Made:
    word = rng.choice(_WORDS)
    return f"What is the first letter of {word}?", word[0]


KINDS: dict[str, Callable[[random.Random], _Made]] = {
    "capital": _of(_CAPITALS, "What is the capital of {}?"),
    "opposite": _of(_OPPOSITES, "What is the opposite of {}?"),
    "plural": _of(_PLURALS, "What is the plural of {}?"),
    "calendar": _calendar,
    "sum": _sum,
    "sequence": _sequence,
    "first letter": _first_letter,
}
