"""What came out, in sentences made of the measured numbers: the step that history took, and whether it shows here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from hanok.recipes.lineage.figures import Gap, answers_gap, bits_gap, mean_right

Json = dict[str, Any]
Tone = Literal["good", "bad", "plain"]
Verdict = tuple[Tone, str]
Place = Literal["text", "recall", "copy", "cost"]  # the section of the page that a verdict belongs to
Rows = Mapping[str, Json]


def verdicts(record: Json) -> list[Json]:
    """Return what can be said about the contestants that ran, in the order of history."""
    rows = {row["name"]: row for row in record["rows"]}
    found: list[tuple[Place, Verdict]] = [("text", _best(rows))] if len(rows) > 1 else []
    for (old, new), place, make in STORY:
        if old in rows and new in rows:
            found.append((place, make(rows[old], rows[new], record)))
    return [{"section": place, "tone": tone, "text": text} for place, (tone, text) in found]


def _best(rows: Rows) -> Verdict:
    order = sorted(rows.values(), key=lambda row: float(row["bits_per_byte"]))
    first, second = order[0], order[1]
    gap = bits_gap(second, first)
    lead = f"{gap.value:.3f} ± {2 * gap.se:.3f} ahead of {second['title']}"
    last = order[-1]
    return "plain", (
        f"Text: {first['title']} is best with {first['bits_per_byte']:.3f} bits/byte, {lead}"
        f"{'' if gap.sign else ', which is within noise'}; last is {last['title']} with {last['bits_per_byte']:.3f}."
    )


def _bits_step(why: str) -> Callable[[Json, Json, Json], Verdict]:
    """Return a verdict on whether the newer of two is better on text, as `why` would have it."""

    def make(old: Json, new: Json, record: Json) -> Verdict:
        gap = bits_gap(old, new)
        return _tone(gap), f"{why}: {_bits(old, new, gap)}{_shown(gap)}"

    return make


def _gates(rnn: Json, lstm: Json, record: Json) -> Verdict:
    far = record["trained"]["recall"]
    gap = answers_gap(rnn, lstm, "recall", 1, far)
    text = "Gates carry further than a plain state: "
    text += f"recall of the RNN {_recall(rnn, far)}, of the LSTM {_recall(lstm, far)}"
    curves = record["reach"]
    if {"rnn, trained", "lstm, trained"} <= set(curves):
        at = min(32, len(curves["rnn, trained"]) - 1)
        text += (
            f"; of a gradient, {curves['rnn, trained'][at]:.1e} is left {at} tokens back in the trained RNN, "
            f"{curves['lstm, trained'][at]:.1e} in the LSTM"
        )
    return _tone(gap), text + _shown(gap)


def _bottleneck(fixed: Json, attention: Json, record: Json) -> Verdict:
    longest = record["trained"]["copy"]
    gap = answers_gap(fixed, attention, "copy", 1, longest)
    return _tone(gap), (
        f"Attention removes the bottleneck of one vector: the fixed vector copies {_upto(fixed, 'copy')}, attention "
        f"{_upto(attention, 'copy')}; over the lengths trained {_share(fixed, 'copy', 1, longest)} against "
        f"{_share(attention, 'copy', 1, longest)} of copies right{_shown(gap)}"
    )


def _parallel(recurrent: Json, transformer: Json, record: Json) -> Verdict:
    ratio = transformer["training_tokens_per_second"] / recurrent["training_tokens_per_second"]
    bits = bits_gap(recurrent, transformer)
    tone: Tone = "good" if ratio > 1.1 else "bad" if ratio < 1 / 1.1 else "plain"
    verdict = "" if tone == "good" else " The expected advantage did not appear on this machine."
    return tone, (
        f"Without recurrence all tokens are learned at once: the Transformer trained {ratio:.2f} times as fast as "
        f"seq2seq with attention ({transformer['training_tokens_per_second']:,.0f} against "
        f"{recurrent['training_tokens_per_second']:,.0f} tokens/s); on text "
        f"{_bits(recurrent, transformer, bits)}.{verdict}"
    )


def _look_back(lstm: Json, llama: Json, record: Json) -> Verdict:
    far = record["trained"]["recall"]
    gap = answers_gap(lstm, llama, "recall", 1, far)
    return _tone(gap), (
        f"Attention looks things up, a state has to carry them: recall of the LSTM {_recall(lstm, far)}, of the LLaMA "
        f"style {_recall(llama, far)}; beyond, {_beyond(llama, record)}{_shown(gap)}"
    )


def _positions(gpt: Json, llama: Json, record: Json) -> Verdict:
    far = record["trained"]["recall"]
    gap, bits = answers_gap(gpt, llama, "recall", 1, far), bits_gap(gpt, llama)
    return _tone(bits), (
        f"LLaMA's parts against GPT's: on text {_bits(gpt, llama, bits)}{_shown(bits)} Recall in the trained range "
        f"{_share(gpt, 'recall', 1, far)} against {_share(llama, 'recall', 1, far)}"
        f"{' (within noise)' if not gap.sign else ''}; "
        f"beyond it, GPT {_beyond(gpt, record)}, LLaMA {_beyond(llama, record)}."
    )


def _experts(dense: Json, sparse: Json, record: Json) -> Verdict:
    gap = bits_gap(dense, sparse)
    more = sparse["parameters_body"] / dense["parameters_body"]
    slower = sparse["training_tokens_per_second"] / dense["training_tokens_per_second"]
    return _tone(gap), (
        f"More weights at equal work per token: the MoE holds {more:.1f} times the weights of the dense model "
        f"({sparse['parameters_body_active'] / dense['parameters_body_active']:.2f} times active), trained at "
        f"{slower:.2f} times its speed here: {_bits(dense, sparse, gap)}{_shown(gap)}"
    )


def _latent(full: Json, latent: Json, record: Json) -> Verdict:
    gap = bits_gap(full, latent)
    tone: Tone = "bad" if gap.sign < 0 else "good"
    loss = "at a loss" if gap.sign < 0 else "at no loss that shows" if gap.sign == 0 else "and it is better"
    return tone, (
        f"MLA keeps {latent['bytes_per_token']:,} bytes a token where GPT keeps {full['bytes_per_token']:,}, {loss}: "
        f"{_bits(full, latent, gap)}."
    )


def _state(llama: Json, mamba: Json, record: Json) -> Verdict:
    far = record["trained"]["recall"]
    equal = mamba["bytes_per_sequence"] / llama["bytes_per_token"]
    gap, bits = answers_gap(llama, mamba, "recall", 1, far), bits_gap(llama, mamba)
    word = {1: "above", 0: "the same within noise as", -1: "below"}[gap.sign]
    return "plain", (
        f"A state of fixed size: Mamba holds {mamba['bytes_per_sequence']:,} bytes however long the text, which "
        f"LLaMA's cache exceeds after {equal:,.0f} tokens; on text {_bits(llama, mamba, bits)}; recall in the trained "
        f"range {_share(mamba, 'recall', 1, far)}, {word} LLaMA's {_share(llama, 'recall', 1, far)}."
    )


def _hybrid(mamba: Json, hybrid: Json, record: Json) -> Verdict:
    far = record["trained"]["recall"]
    gap, bits = answers_gap(mamba, hybrid, "recall", 1, far), bits_gap(mamba, hybrid)
    return _tone(gap), (
        f"One layer of attention among states brings recall back: Mamba {_recall(mamba, far)}, the hybrid "
        f"{_recall(hybrid, far)}; beyond, the hybrid {_beyond(hybrid, record)}; on text "
        f"{_bits(mamba, hybrid, bits)}{_shown(gap)}"
    )


STORY: tuple[tuple[tuple[str, str], Place, Callable[[Json, Json, Json], Verdict]], ...] = (
    (("ngram", "mlp"), "text", _bits_step("Vectors share what counts cannot")),
    (("mlp", "rnn"), "text", _bits_step("A state sees further than a window")),
    (("rnn", "lstm"), "recall", _gates),
    (("rnn", "lstm"), "text", _bits_step("Gates, on text")),
    (("lstm", "gru"), "text", _bits_step("Fewer gates do as well or better")),
    (("seq2seq", "attention"), "copy", _bottleneck),
    (("attention", "transformer"), "cost", _parallel),
    (("transformer", "gpt"), "text", _bits_step("One stack that predicts every token, instead of two")),
    (("lstm", "llama"), "recall", _look_back),
    (("gpt", "llama"), "text", _positions),
    (("llama", "moe"), "text", _experts),
    (("gpt", "mla"), "cost", _latent),
    (("llama", "mamba"), "cost", _state),
    (("mamba", "hybrid"), "recall", _hybrid),
)


def _tone(gap: Gap) -> Tone:
    return "good" if gap.sign > 0 else "bad" if gap.sign < 0 else "plain"


def _shown(gap: Gap) -> str:
    """Say it where the expected step did not appear."""
    if gap.sign > 0:
        return "."
    return (
        ". The expected difference does not show." if gap.sign == 0 else ". This is the opposite of what was expected."
    )


def _bits(old: Json, new: Json, gap: Gap) -> str:
    word = {1: "saves", 0: "differs within noise,", -1: "loses"}[gap.sign]
    value = gap.value if gap.sign == 0 else abs(gap.value)
    return (
        f"{new['title']} {word} {value:{'+' if gap.sign == 0 else ''}.3f} ± {2 * gap.se:.3f} bits/byte against "
        f"{old['title']} ({new['bits_per_byte']:.3f}, {old['bits_per_byte']:.3f})"
    )


def _recall(row: Json, far: int) -> str:
    k = row["recall_reach"]
    within = f"keeps above 90 % to k = {k}" if k else "stays below 90 % at every k"
    return f"{within} ({_share(row, 'recall', 1, far)} on average up to {far})"


def _beyond(row: Json, record: Json) -> str:
    far = record["trained"]["recall"]
    return f"{_share(row, 'recall', far + 1, 1 << 30)} right at k > {far}"


def _upto(row: Json, word: str) -> str:
    length = row[f"{word}_reach"]
    return f"up to length {length}" if length else "no length in nine of ten cases"


def _share(row: Json, word: str, low: int, high: int) -> str:
    return f"{100 * mean_right(row, word, low, high).value:.0f} %"
