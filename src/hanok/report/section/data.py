"""The corpus and its tokenizer."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.report.command import again
from hanok.report.figure.bars import bar_plot
from hanok.report.parts import Figure, Section, Table, Words
from hanok.report.run import Run, read_json
from hanok.report.section import SECTIONS
from hanok.report.show import figure, megabytes, millions, percent

WHAT = Words(
    "Text is normalised (NFC), split into training and validation by hash, and cut into tokens by a byte-level "
    "BPE that "
    "was trained on the training part only. Fertility says how many tokens a language costs.",
    "텍스트를 NFC로 정규화하고 해시로 학습용과 검증용을 나눈 뒤, 학습용만으로 만든 바이트 수준 BPE로 토큰화합니다. "
    "토큰 효율은 한 언어를 적는 데 토큰이 얼마나 드는지를 말합니다.",
)


@SECTIONS.register("data")
def data(run: Run, step: str, artifact: Artifact) -> Section:
    """Show what was read and what its tokens cost in English and Korean."""
    meta = {**artifact.metrics, **read_json(artifact, "meta.json")}
    facts = [
        (Words("corpus", "말뭉치"), figure(meta.get("source"))),
        (Words("size", "크기"), megabytes(meta.get("corpus_bytes", 0))),
        (Words("training tokens", "학습 토큰"), millions(meta.get("train_tokens", 0))),
        (Words("validation tokens", "검증 토큰"), millions(meta.get("valid_tokens", 0))),
        (Words("vocabulary", "어휘"), figure(meta.get("vocab_size"))),
        (Words("share of generated tasks", "생성 과제의 비율"), percent(meta.get("task_share", 0))),
        (Words("sha256 of the corpus", "말뭉치 sha256"), figure(meta.get("corpus_sha256"))),
    ]
    fertility = meta.get("fertility", {})
    languages = {name: fertility[name] for name in ("english", "korean") if name in fertility}
    figures = [_figure(languages, fertility.get("nfd_ratio"))] if languages else []
    return Section(
        step,
        Words("Data and tokenizer", "데이터와 토크나이저"),
        WHAT,
        facts=facts,
        figures=figures,
        commands=again(run, artifact),
        origins=[run.origin(artifact)],
    )


def _figure(languages: dict[str, dict[str, float]], nfd: float | None) -> Figure:
    bars = [(name, values["bytes_per_token"], True) for name, values in languages.items()]
    words = [(name, values["tokens_per_eojeol"], True) for name, values in languages.items()]
    columns = ("chars_per_token", "bytes_per_token", "tokens_per_syllable", "tokens_per_eojeol")
    rows = [[name, *(values.get(column) for column in columns)] for name, values in languages.items()]
    title = Words("Bytes per token (more is cheaper)", "토큰당 바이트 (클수록 쌈)")
    plots = (
        bar_plot("fertility-bytes", title, bars, unit="bytes per token", form=".2f"),
        bar_plot(
            "fertility-words",
            Words("Tokens per word (fewer is cheaper)", "어절당 토큰 (작을수록 쌈)"),
            words,
            unit="tokens per word or eojeol",
            form=".2f",
        ),
    )
    note = None
    if nfd is not None:
        note = Words(
            f"Decomposed Korean (NFD) costs {nfd:.2f} times the tokens of composed Korean.",
            f"자모로 풀린 한글(NFD)은 완성형의 {nfd:.2f}배 토큰이 듭니다.",
        )
    return Figure("fertility", plots, Table(("language", *columns), rows), note)
