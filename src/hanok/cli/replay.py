"""`hanok replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import Json, emit, table


def replay(
    bundle: Annotated[Path, cyclopts.Parameter(help="folder that a refused step has left (RUN/refused/step-...)")],
    *,
    weights: Annotated[Path | None, cyclopts.Parameter(help="other weights, such as a checkpoint's")] = None,
    tokenizer: Annotated[
        Path | None, cyclopts.Parameter(help="folder of the tokenizer, to show the rows' text")
    ] = None,
    top: Annotated[int, cyclopts.Parameter(help="rows and layers to show")] = 8,
    json: Json = False,
) -> None:
    """Take a refused training step again, and show what was wrong: the batch, the weights, a row, a layer, or nothing.

    The gradient norm of each row alone and of each layer (recorded, again) says where it comes from.
    """
    from hanok.text.tokenizer import Tokenizer
    from hanok.train.hook.spike import plain
    from hanok.train.replay import replay as take_again
    from hanok.train.replay import verdict

    found = take_again(bundle, weights=weights)
    words = Tokenizer.load(tokenizer) if tokenizer is not None else None
    pairs = {name: f"{found.recorded[name]:.6g} -> {found.again[name]:.6g}" for name in ("loss", "grad_norm")}
    head = {"step": found.step, "verdict": verdict(found), "repeats": found.repeats, **pairs}
    layers = sorted(
        found.layers.items(), key=lambda item: -abs(item[1][0]) if item[1][0] == item[1][0] else -float("inf")
    )
    rows = [
        {
            "batch": row.batch,
            "row": row.row,
            "loss": plain(row.loss),
            "grad_norm": plain(row.norm),
            "text": words.decode(row.tokens, skip_special=False)[:60] if words else " ".join(map(str, row.tokens[:12])),
        }
        for row in found.rows[:top]
    ]
    if json:
        shown = {name: [plain(x) for x in norms] for name, norms in layers[:top]}
        emit({**head, "causes": found.causes, "rows": rows, "layers": shown}, as_json=True)
        return
    emit(head, as_json=False)
    for cause in found.causes:
        print(f"- {cause}")
    table([list(row.values()) for row in rows], ["batch", "row", "loss", "gradient norm", "text"])
    table([[name, f"{was:.4g}", f"{now:.4g}"] for name, (was, now) in layers[:top]], ["layer", "recorded", "again"])
