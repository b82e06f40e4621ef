"""The race's one page: lineage.html, self-contained, made of results.json alone."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hanok.core.artifact import atomic_write
from hanok.core.errors import require
from hanok.recipes.lineage.results import tables
from hanok.recipes.lineage.task import KEYS, SYMBOLS, VALUES
from hanok.report.figure import lineage as draw
from hanok.report.page import Page, render
from hanok.report.parts import Figure, Origin, Remark, Section, Table, Words, same
from hanok.report.show import duration

Json = dict[str, Any]
FILE = "lineage.html"
LENGTHS = (1, 10, 100, 1000, 10_000, 100_000)


def write_page(results: Json, root: Path) -> Path:
    """Write the page, and return its path."""
    plotly = require("plotly.offline", extra="report")
    numbers = {name: Table(tuple(columns), rows) for name, (columns, rows) in tables(results).items()}
    sections = [_text(results, numbers), _recall(results, numbers), _copy(results, numbers)]
    sections += [_why(results, numbers)] if results["reach"] else []
    sections += [_cost(results, numbers)]
    page = Page("hanok lineage", _command(results), _header(results), _cards(results), sections)
    atomic_write(root / FILE, render(page, plotly.get_plotlyjs()))
    return root / FILE


def _text(results: Json, numbers: dict[str, Table]) -> Section:
    rows, window = results["rows"], results["window"]
    equal = "tokens" if results["config"]["budget"] == "tokens" else "seconds of training"
    what = Words(
        f"One tokenizer, one corpus, equal {equal}, the same windows of {window} tokens in the same order, the same "
        "optimiser (AdamW) and schedule. Learning rates are chosen per kind, some by a small sweep and some by analogy "
        "(docs/lab/005), and stand in the table. "
        "An encoder-decoder reads the first half of a window and learns to write the second, so it learns from half as "
        "many targets. The recurrent networks stand in the same residual frame with norms as the others, which the "
        "first ones did not have. The n-gram counts as many tokens.",
        "같은 토크나이저, 같은 말뭉치, 같은 예산, 같은 순서의 같은 구간, 같은 최적화기로 학습했습니다.",
    )
    about = Words(
        "Every model once. Recall, copy and reverse: the longest k or length up to which nine of ten answers were "
        "right (0: none). Bytes are those kept while writing: per token, per token of a source, and "
        "whatever the length.",
        "모든 모델을 한 줄씩. 회상, 복사, 뒤집기는 열에 아홉을 맞힌 가장 긴 거리나 길이입니다.",
    )
    figures = [
        Figure("table", (), _rounded(numbers["table"]), about),
        draw.language_figure(rows),
        draw.curves_figure(rows, numbers["curves"]),
    ]
    return _section(results, "text", Words("Text, and the one table", "글, 그리고 표 하나"), what, figures)


def _recall(results: Json, numbers: dict[str, Table]) -> Section:
    rows, pairs, far = results["rows"], results["pairs"], results["trained"]["recall"]
    what = Words(
        f"{pairs} keys with their values are shown, then filler, then a key is asked for its value, which lies k "
        f"tokens ago. Every contestant learns this from nothing, in a model of its kind with about a tenth of a "
        f"million weights, from equal batches; training shows k up to {far}. Guessing among all values is right in "
        f"{100 / VALUES:.1f} % of cases, among the {pairs} values that were shown in {100 / pairs:.0f} %.",
        f"열쇠와 값 {pairs}쌍을 보여 주고 k 토큰 뒤에 열쇠 하나의 값을 묻습니다. 학습은 k = {far}까지입니다.",
    )
    note = Words(
        f"Percent of {results['questions']} questions right; {KEYS} keys, {VALUES} values. Right of the dotted line: "
        "farther than training ever showed.",
        "맞은 문항의 비율(%). 점선 오른쪽은 학습에서 본 적 없는 거리입니다.",
    )
    lines = Words(
        "Bars are 95 % Wilson intervals over questions; the grey range is what training shows, the dashed "
        "lines guesses among all values and among those shown.",
        "막대는 95 % 윌슨 구간, 회색은 학습한 범위, 점선은 찍었을 때의 정답률입니다.",
    )
    grid = [("recall", Words("Recall of a key seen k tokens ago (% right)", "k 토큰 앞 열쇠의 회상 (%)"))]
    table = _only(numbers["probes"], "recall")
    figures = [
        draw.probe_figure(rows, grid, results["trained"], table, note),
        draw.eras_figure(rows, far, 1 / pairs, table, lines),
    ]
    title = Words("How far back each can look", "얼마나 멀리 돌아볼 수 있는가")
    return _section(results, "recall", title, what, figures)


def _copy(results: Json, numbers: dict[str, Table]) -> Section:
    length = results["trained"]["copy"]
    what = Words(
        f"A list of symbols is to be said again, or backwards; training shows lengths up to {length}. An answer counts "
        f"when every symbol is right, which is what greedy writing would give; a guess is right in 1/{SYMBOLS}^length "
        "of cases. One vector between reader and writer has to hold the whole list; attention does not.",
        f"기호 목록을 그대로, 또는 거꾸로 말하게 합니다. 학습은 길이 {length}까지입니다.",
    )
    note = Words(
        "Percent of lists right throughout. Right of the dotted line: longer than training ever showed.",
        "전부 맞은 목록의 비율(%). 점선 오른쪽은 학습에서 본 적 없는 길이입니다.",
    )
    grids = [
        ("copy", Words("Copy by length (% right)", "길이별 복사 (%)")),
        ("reverse", Words("Reverse by length (% right)", "길이별 뒤집기 (%)")),
    ]
    table = _only(numbers["probes"], "copy", "reverse")
    figure = draw.probe_figure(results["rows"], grids, results["trained"], table, note)
    return _section(results, "copy", Words("Copying and reversing", "복사와 뒤집기"), what, [figure])


def _why(results: Json, numbers: dict[str, Table]) -> Section:
    what = Words(
        "What a network cannot feel it cannot learn: the gradient that a token sends back through a recurrent layer, "
        "before training and after it.",
        "느낄 수 없는 것은 배울 수 없습니다: 순환층을 거슬러 오르는 기울기.",
    )
    figure = draw.reach_figure(results["reach"], numbers["reach"])
    figures: list[Figure] = [figure] if figure else []
    return _section(results, "reach", Words("Why gates", "왜 게이트인가"), what, figures)


def _cost(results: Json, numbers: dict[str, Table]) -> Section:
    rows = results["rows"]
    what = Words(
        "What history paid for looking back: a cache that grows with every token, or a state that does not; and what "
        "a step of training and a written token cost.",
        "돌아보는 값: 토큰마다 자라는 캐시, 또는 자라지 않는 상태.",
    )
    keys = ("bytes_per_token", "bytes_per_source_token", "bytes_per_sequence")
    memory = Table(("model", *keys), [[row["title"], *(row[key] for key in keys)] for row in rows])
    speeds = ("training_tokens_per_second", "decoding_tokens_per_second", "training_seconds")
    speed = Table(("model", *speeds), [[row["title"], *(row[key] for key in speeds)] for row in rows])
    figures = [draw.memory_figure(rows, LENGTHS, memory), draw.speed_figure(rows, speed)]
    return _section(results, "cost", Words("Memory and speed", "메모리와 속도"), what, figures)


def _section(results: Json, id: str, title: Words, what: Words, figures: Sequence[Figure]) -> Section:
    """Return a section with its verdicts and the artifacts that its figures come from."""
    remarks = [Remark(each["tone"], same(each["text"])) for each in results["verdicts"] if each["section"] == id]
    names = {row["name"] for row in results["rows"]}
    steps = {f"{name}-{id}" for name in names} | {id}
    chosen = {"text": names | {"data", "schedule"}, "cost": names}.get(id, steps)
    origins = [
        Origin(*(each[key] for key in ("folder", "digest", "created", "seconds", "inputs")))
        for each in results["made"]
        if each["step"] in chosen
    ]
    return Section(id, title, what, remarks=remarks, figures=figures, origins=origins)


def _rounded(table: Table) -> Table:
    """Return the one table as people read it: years are names, and errors need no more than two digits."""
    rows = []
    for row in table.rows:
        cells: Json = dict(zip(table.columns, row, strict=True))
        cells |= {"year": str(cells["year"]), "± se": float(f"{cells['± se']:.2g}")}
        rows.append([*cells.values()])
    return Table(table.columns, rows)


def _only(table: Table, *words: str) -> Table:
    return Table(table.columns, [row for row in table.rows if row[1] in words])


def _header(results: Json) -> list[tuple[Words, str]]:
    machine, corpus = results["machine"], results["corpus"]
    return [
        (Words("machine", "기기"), f"{machine['processor']} · {machine['cores']} cores · {machine['memory_gib']} GiB"),
        (
            Words("versions", "버전"),
            f"Python {machine['python']} · torch {machine['torch']} · hanok {machine['hanok']}",
        ),
        (Words("corpus", "말뭉치"), f"{corpus['train_tokens']:,} tokens, sha {corpus['corpus_sha256'][:8]}"),
        (Words("vocabulary", "어휘"), f"{corpus['vocab_size']:,}"),
        (Words("seed", "시드"), str(results["config"]["seed"])),
        (Words("time in stages", "단계에 든 시간"), duration(results["seconds"])),
    ]


def _cards(results: Json) -> list[tuple[Words, str]]:
    rows = results["rows"]
    best = min(rows, key=lambda row: float(row["bits_per_byte"]))
    far = max(rows, key=lambda row: (row["recall_reach"], -rows.index(row)))
    networks = [row for row in rows if row["curve"]]
    fast = max(networks, key=lambda row: float(row["training_tokens_per_second"]), default=best)
    cards = [
        (Words("contestants", "참가자"), str(len(rows))),
        (Words("least bits/byte", "가장 적은 바이트당 비트"), f"{best['bits_per_byte']:.3f} · {best['title']}"),
        (Words("tokens read by each", "각자 읽은 토큰"), f"{max(row['tokens_read'] for row in networks or rows):,}"),
        (Words("fastest network to train", "가장 빠른 학습"), fast["title"]),
    ]
    if far["recall_reach"]:
        cards.append((Words("recalls farthest", "가장 먼 회상"), f"k = {far['recall_reach']} · {far['title']}"))
    return cards


def _command(results: Json) -> str:
    config = results["config"]
    command = f"hanok lineage --minutes {config['minutes']:g} --seed {config['seed']}"
    command += f" --only {','.join(config['only'])}" if config["only"] else ""
    command += f" --budget {config['budget']}" if config["budget"] != "tokens" else ""
    return command + (f" --data {shlex.join(config['data'])}" if config["data"] else "")
