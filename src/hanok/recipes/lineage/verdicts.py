"""What came out, in sentences made of the measured numbers: the step that history took, and whether it shows here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from hanok.recipes.lineage.figures import Gap, answers_gap, bits_gap, mean_right

Json = dict[str, Any]
Tone = Literal["good", "bad", "plain"]
Verdict = tuple[Tone, str]
Place = Literal["text", "recall", "copy", "cost"]  # the section of the page that a verdict belongs to
Rows = Mapping[str, Json]
MARGIN = 0.1  # above guessing, below which nobody has learned a probe


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


def _bits_step(question: str) -> Callable[[Json, Json, Json], Verdict]:
    """Return a verdict on whether the newer of two is better on text."""

    def make(old: Json, new: Json, record: Json) -> Verdict:
        gap = bits_gap(old, new)
        return _tone(gap), f"{question} {_answer(gap)} {_bits(old, new, gap)}."

    return make


def _gates(rnn: Json, lstm: Json, record: Json) -> Verdict:
    far = record["trained"]["recall"]
    gap = answers_gap(rnn, lstm, "recall", 1, far)
    tone, answer = _judged(gap, (rnn, lstm), record)
    text = f"Do gates carry further than a plain state? {answer} "
    text += f"Recall of the RNN {_recall(rnn, far)}, of the LSTM {_recall(lstm, far)}"
    curves = record["reach"]
    if {"rnn, trained", "lstm, trained"} <= set(curves):
        at = min(32, len(curves["rnn, trained"]) - 1)
        text += (
            f"; of a gradient, {curves['rnn, trained'][at]:.1e} is left {at} tokens back in the trained RNN, "
            f"{curves['lstm, trained'][at]:.1e} in the LSTM"
        )
    return tone, text + "."


def _bottleneck(fixed: Json, attention: Json, record: Json) -> Verdict:
    longest = record["trained"]["copy"]
    gap = answers_gap(fixed, attention, "copy", 1, longest)
    return _tone(gap), (
        f"Does attention remove the bottleneck of one vector? {_answer(gap)} "
        f"The fixed vector copies {_upto(fixed, 'copy')}, attention "
        f"{_upto(attention, 'copy')}; over the lengths trained {_share(fixed, 'copy', 1, longest)} against "
        f"{_share(attention, 'copy', 1, longest)} of copies right."
    )


def _parallel(recurrent: Json, transformer: Json, record: Json) -> Verdict:
    ratio = transformer["training_tokens_per_second"] / recurrent["training_tokens_per_second"]
    bits = bits_gap(recurrent, transformer)
    tone: Tone = "good" if ratio > 1.1 else "bad" if ratio < 1 / 1.1 else "plain"
    answer = {"good": "Yes.", "plain": "Not on this machine.", "bad": "No, slower on this machine."}[tone]
    return tone, (
        f"Does training without recurrence go faster? {answer} "
        f"The Transformer trained {ratio:.2f} times as fast as "
        f"seq2seq with attention ({transformer['training_tokens_per_second']:,.0f} against "
        f"{recurrent['training_tokens_per_second']:,.0f} tokens/s); on text "
        f"{_bits(recurrent, transformer, bits)}."
    )


def _look_back(lstm: Json, llama: Json, record: Json) -> Verdict:
    far = record["trained"]["recall"]
    gap = answers_gap(lstm, llama, "recall", 1, far)
    tone, answer = _judged(gap, (lstm, llama), record)
    return tone, (
        f"Does looking things up beat carrying them in a state? {answer} "
        f"Recall of the LSTM {_recall(lstm, far)}, of the LLaMA "
        f"style {_recall(llama, far)}; beyond, {_beyond(llama, record)}."
    )


def _positions(gpt: Json, llama: Json, record: Json) -> Verdict:
    far = record["trained"]["recall"]
    gap, bits = answers_gap(gpt, llama, "recall", 1, far), bits_gap(gpt, llama)
    return _tone(bits), (
        f"Are LLaMA's parts better than GPT's? {_answer(bits)} "
        f"On text {_bits(gpt, llama, bits)}. Recall in the trained range "
        f"{_share(gpt, 'recall', 1, far)} against {_share(llama, 'recall', 1, far)}"
        f"{' (within noise)' if not gap.sign else ''}; "
        f"beyond it, GPT {_beyond(gpt, record)}, LLaMA {_beyond(llama, record)}."
    )


def _experts(dense: Json, sparse: Json, record: Json) -> Verdict:
    gap = bits_gap(dense, sparse)
    more = sparse["parameters_body"] / dense["parameters_body"]
    slower = sparse["training_tokens_per_second"] / dense["training_tokens_per_second"]
    return _tone(gap), (
        f"Do more weights at equal work per token help? {_answer(gap)} "
        f"The MoE holds {more:.1f} times the weights of the dense model "
        f"({sparse['parameters_body_active'] / dense['parameters_body_active']:.2f} times active), trained at "
        f"{slower:.2f} times its speed here: {_bits(dense, sparse, gap)}."
    )


def _latent(full: Json, latent: Json, record: Json) -> Verdict:
    gap = bits_gap(full, latent)
    tone: Tone = "bad" if gap.sign < 0 else "good"
    answer = "No, at a loss." if gap.sign < 0 else "Yes."
    return tone, (
        f"Is a smaller cache free? {answer} "
        f"MLA keeps {latent['bytes_per_token']:,} bytes a token where GPT keeps "
        f"{full['bytes_per_token']:,}; on text {_bits(full, latent, gap)}."
    )


def _state(llama: Json, mamba: Json, record: Json) -> Verdict:
    far = record["trained"]["recall"]
    equal = mamba["bytes_per_sequence"] / llama["bytes_per_token"]
    gap, bits = answers_gap(llama, mamba, "recall", 1, far), bits_gap(llama, mamba)
    word = {1: "above", 0: "the same within noise as", -1: "below"}[gap.sign]
    return "plain", (
        f"What does a state of fixed size give and take? "
        f"Mamba holds {mamba['bytes_per_sequence']:,} bytes however long the text, which "
        f"LLaMA's cache exceeds after {equal:,.0f} tokens; on text {_bits(llama, mamba, bits)}; recall in the trained "
        f"range {_share(mamba, 'recall', 1, far)}, {word} LLaMA's {_share(llama, 'recall', 1, far)}."
    )


def _hybrid(mamba: Json, hybrid: Json, record: Json) -> Verdict:
    far = record["trained"]["recall"]
    gap, bits = answers_gap(mamba, hybrid, "recall", 1, far), bits_gap(mamba, hybrid)
    tone, answer = _judged(gap, (mamba, hybrid), record)
    return tone, (
        f"Does a little attention among states bring recall back? {answer} "
        f"Mamba {_recall(mamba, far)}, the hybrid "
        f"{_recall(hybrid, far)}; beyond, the hybrid {_beyond(hybrid, record)}; on text "
        f"{_bits(mamba, hybrid, bits)}."
    )


STORY: tuple[tuple[tuple[str, str], Place, Callable[[Json, Json, Json], Verdict]], ...] = (
    (("ngram", "mlp"), "text", _bits_step("Do vectors beat counts?")),
    (("mlp", "rnn"), "text", _bits_step("Does a state beat a window?")),
    (("rnn", "lstm"), "recall", _gates),
    (("rnn", "lstm"), "text", _bits_step("Do gates help on text?")),
    (("lstm", "gru"), "text", _bits_step("Are the GRU's fewer gates better than the LSTM's?")),
    (("seq2seq", "attention"), "copy", _bottleneck),
    (("attention", "transformer"), "cost", _parallel),
    (("transformer", "gpt"), "text", _bits_step("Is one stack that predicts every token better than two?")),
    (("lstm", "llama"), "recall", _look_back),
    (("gpt", "llama"), "text", _positions),
    (("llama", "moe"), "text", _experts),
    (("gpt", "mla"), "cost", _latent),
    (("llama", "mamba"), "cost", _state),
    (("mamba", "hybrid"), "recall", _hybrid),
)


def _tone(gap: Gap) -> Tone:
    return "good" if gap.sign > 0 else "bad" if gap.sign < 0 else "plain"


def _answer(gap: Gap) -> str:
    """Say it where the step that history took does not show."""
    return {1: "Yes.", 0: "No difference shows.", -1: "No, the opposite came out."}[gap.sign]


def _judged(gap: Gap, rows: Sequence[Json], record: Json) -> tuple[Tone, str]:
    """Judge a difference in recall; among those who merely guess one of the values shown there is none to speak of."""
    far, guess = record["trained"]["recall"], 1 / record["pairs"]
    best = max(mean_right(row, "recall", 1, far).value for row in rows)
    if best < guess + MARGIN:
        return "plain", f"Not to be seen: neither is far above a guess among the values shown ({100 * guess:.0f} %)."
    return _tone(gap), _answer(gap)


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
