"""Language: which one a page is written in, by its script and its small words."""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal, Self

from pydantic import Field, model_validator

from hanok.core.config import PartConfig
from hanok.core.errors import suggest
from hanok.text.data.document import Verdict
from hanok.text.data.filter import FILTERS
from hanok.text.data.filter.base import PageFilter

# The most frequent small words of languages in Latin letters: no prose goes without them, and few are shared.
SMALL_WORDS = {
    "en": "the of and to in a is that it for was on with as be by are this at from or an have not but which you we he",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er",
    "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont aux avec",
    "es": "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha sin sobre",
    "it": "di e il la che in un a per è una sono con non del si da al le dei i della gli nel più come alla anche ha",
    "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu",
    "nl": "de van het een en in is dat op te zijn met voor niet aan er om dan die ook als bij maar door naar uit",
    "pl": "w i na z do się nie to że jest o jak od za po przez tym oraz dla był jako ale czy tego są także być co",
    "sv": "och i att det som en på är av för med den till har de inte om ett var men så från kan vid hon han också",
    "tr": "ve bir bu da de için ile olarak çok daha olan ne gibi en kadar var ama sonra değil ise her o göre mi ki",
    "vi": "và của là có trong được cho với các một không người những để đã này khi về ra từ cũng như vào đến thì",
    "id": "yang dan di ini dengan untuk itu dari dalam tidak akan pada juga ke bisa ada mereka lebih telah oleh saya",
}
SCRIPTS = {
    "hangul": r"가-힣ㄱ-ㆎ",
    "kana": r"ぁ-ヿ",
    "han": r"一-鿿㐀-䶿",
    "cyrillic": r"Ѐ-ӿ",
    "greek": r"Ͱ-Ͽ",
    "arabic": r"؀-ۿ",
    "hebrew": r"א-ת",
    "thai": r"ก-๛",
    "devanagari": r"ऀ-ॿ",
}
LATIN = r"A-Za-zÀ-ɏḀ-ỿ"
OF_SCRIPT = {
    "hangul": "ko",
    "cyrillic": "ru",
    "greek": "el",
    "arabic": "ar",
    "hebrew": "he",
    "thai": "th",
    "devanagari": "hi",
}
DENSE = {"hangul": 2.5, "han": 2.5, "kana": 2.0}  # how many Latin letters one sign is worth
LANGUAGES = tuple(sorted({*SMALL_WORDS, *OF_SCRIPT.values(), "ja", "zh"}))
MIN_DENSITY = 0.05  # small words among all words; prose has 0.25 and more
SAMPLE = 10_000  # characters that are looked at

_RUNS = {name: re.compile(f"[{signs}]+") for name, signs in SCRIPTS.items()}
_LATIN_WORD = re.compile(f"[{LATIN}]+")
_LISTS = {language: frozenset(words.split()) for language, words in SMALL_WORDS.items()}
_ANY = frozenset().union(*_LISTS.values())


@FILTERS.register("language", paper="Grefenstette 1995 (JADT)")
class Language(PageFilter):
    """Keeps pages of the languages that are asked for, by script and small words.

    The small-word technique is Grefenstette's (1995, "Comparing two language identification schemes"); the threshold of
    0.65 is FineWeb's for fastText (Penedo et al. 2024, section 3.3), whose scores these are not: a score here is the
    share of a page's letters in the language's script, times, where many languages share the script, the share of its
    small words that are the language's. Good for telling pages of prose apart; it knows no language of a shared script
    but those in `SMALL_WORDS`, and Russian stands for all of Cyrillic, Arabic for all in its letters, Hindi for
    Devanagari.
    """

    class Config(PartConfig):
        """The languages to keep (ISO 639-1), and the least score."""

        kind: Literal["language"] = "language"
        keep: tuple[str, ...] = ("en", "ko")
        min_score: float = Field(default=0.65, ge=0, le=1)

        @model_validator(mode="after")
        def _known(self) -> Self:
            for language in self.keep:
                if language not in LANGUAGES:
                    hint = suggest(language, LANGUAGES)
                    raise ValueError(f"cannot tell the language {language!r}{hint} (known: {', '.join(LANGUAGES)})")
            return self

    config: Config

    def judge(self, text: str) -> Verdict:
        """Return that the language is another one, or cannot be told."""
        language, score = detect(text)
        if language not in self.config.keep:
            return "no language" if language == "und" else "other language"
        return "mixed language" if score < self.config.min_score else None


def detect(text: str) -> tuple[str, float]:
    """Return the language (ISO 639-1, or "und") and a score in [0, 1]."""
    text = text[:SAMPLE]
    latin = _LATIN_WORD.findall(text.lower())
    counts = {"latin": float(sum(map(len, latin)))}
    if not text.isascii():
        counts |= {name: sum(map(len, run.findall(text))) * DENSE.get(name, 1.0) for name, run in _RUNS.items()}
    total = sum(counts.values())
    if not total:
        return "und", 0.0
    if counts.get("kana", 0) and counts["kana"] > 0.1 * counts["han"]:  # Han signs between Kana are Japanese
        counts["kana"] += counts.pop("han")
    script = max(counts, key=lambda name: counts[name])
    share = counts[script] / total
    if script in OF_SCRIPT:
        return OF_SCRIPT[script], share
    if script in ("kana", "han"):
        return ("ja" if script == "kana" else "zh"), share
    language, explained = _latin(latin)
    return (language, share * explained) if language != "und" else ("und", 0.0)


def _latin(words: list[str]) -> tuple[str, float]:
    """Return whose small words a text has, and the share of its small words that they explain."""
    small = Counter(word for word in words if word in _ANY)
    total = small.total()
    if total < max(MIN_DENSITY * len(words), 1):
        return "und", 0.0
    hits = {language: sum(small[word] for word in small.keys() & known) for language, known in _LISTS.items()}
    best = max(hits, key=lambda language: hits[language])  # of equals the first in the table
    return best, hits[best] / total
