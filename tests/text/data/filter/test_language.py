from __future__ import annotations

from pathlib import Path

import pytest

from hanok.text.data.byte_ngram import ByteNGram
from hanok.text.data.document import Page
from hanok.text.data.filter import make_filter
from hanok.text.data.filter.language import LANGUAGES, detect
from hanok.text.data.filter.perplexity import Perplexity

TEXTS = {
    "en": "The house that we built is on the hill, and it was not easy to find a way for all of us to live in it.",
    "de": "Das Haus, das wir gebaut haben, steht auf dem Hügel, und es war nicht leicht, für alle einen Weg zu finden.",
    "fr": (
        "La maison que nous avons construite est sur la colline, et il ne fut pas facile de trouver une "
        "place pour tous."
    ),
    "es": (
        "La casa que construimos está en la colina, y no fue fácil encontrar un lugar para todos los que viven en ella."
    ),
    "it": (
        "La casa che abbiamo costruito è sulla collina, e non è stato facile trovare un posto per tutti "
        "quelli della via."
    ),
    "pt": (
        "A casa que nós fizemos fica no alto do monte, e não foi fácil achar um lugar para todos os que moram na rua."
    ),
    "nl": (
        "Het huis dat wij hebben gebouwd staat op de heuvel, en het was niet makkelijk om een plek voor "
        "allen te vinden."
    ),
    "pl": (
        "Dom, który zbudowaliśmy, stoi na wzgórzu i nie było łatwo znaleźć w nim miejsce dla tych, co "
        "się do nas wybrali."
    ),
    "sv": "Huset som vi har byggt ligger på en kulle, och det var inte lätt att finna en plats för alla som bor i det.",
    "tr": "Yaptığımız ev bir tepenin üstünde ve içinde herkes için bir yer bulmak çok kolay değil ama daha sonra oldu.",
    "vi": "Ngôi nhà của chúng tôi ở trên đồi và không dễ để tìm một chỗ cho những người đã đến với chúng tôi.",
    "id": "Rumah yang kami bangun ada di atas bukit dan tidak mudah untuk mencari tempat bagi mereka yang akan datang.",
    "ko": "우리가 지은 집은 언덕 위에 있고 모두가 살 자리를 찾는 일은 쉽지 않았다. Python으로 쓴 코드도 있다.",
    "ja": "私たちが建てた家は丘の上にあり、みんなの場所を見つけるのは簡単ではなかった。",
    "zh": "我们建造的房子在山上，要为所有人找到住处并不容易。",
    "ru": "Дом, который мы построили, стоит на холме, и было нелегко найти место для всех.",
    "el": "Το σπίτι που χτίσαμε είναι στον λόφο και δεν ήταν εύκολο.",
    "ar": "البيت الذي بنيناه يقع على التل ولم يكن من السهل إيجاد مكان للجميع.",
    "he": "הבית שבנינו נמצא על הגבעה ולא היה קל למצוא מקום לכולם.",
    "th": "บ้านที่เราสร้างอยู่บนเนินเขาและไม่ง่ายที่จะหาที่สำหรับทุกคน",
    "hi": "हमने जो घर बनाया वह पहाड़ी पर है और सबके लिए जगह ढूँढना आसान नहीं था।",
}


@pytest.mark.parametrize("language", TEXTS)
def test_tells_languages_apart(language: str) -> None:
    found, score = detect(TEXTS[language])
    assert found == language and 0.65 <= score <= 1


def test_every_language_it_knows_has_a_case() -> None:
    assert {*TEXTS} == {*LANGUAGES}


def test_keeps_what_was_asked_for() -> None:
    keep = make_filter({"kind": "language", "keep": ["ko"]})
    assert keep(Page("1", TEXTS["ko"], "s")) is None
    assert keep(Page("2", TEXTS["en"], "s")) == "other language"
    assert keep(Page("3", "1234 +-*/ 5678", "s")) == "no language"
    assert keep(Page("4", "zxq wvb plk mnb qwr tzp xcv bnm ghj klp", "s")) == "no language"
    both = TEXTS["ko"] + TEXTS["ru"]
    assert keep(Page("5", both, "s")) == "mixed language"


def test_perplexity_needs_bounds_and_uses_the_model_it_is_given(tmp_path: Path) -> None:
    model = ByteNGram.train([TEXTS["en"], TEXTS["de"]] * 20)
    model.save(tmp_path / "good.safetensors")
    settings = {"kind": "perplexity", "model": str(tmp_path / "good.safetensors"), "max_bits": 3.0, "min_bits": 0.01}
    judge = make_filter(settings)
    assert judge(Page("1", TEXTS["en"], "s")) is None
    assert judge(Page("2", "kzq jxv wwp", "s")) == "high perplexity"

    class Plain:
        def bits_per_byte(self, text: str) -> float:
            return 0.001

    assert Perplexity(Perplexity.Config(min_bits=0.1), Plain())(Page("3", "aaaa", "s")) == "low perplexity"
