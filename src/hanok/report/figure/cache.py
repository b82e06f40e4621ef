"""What a sequence costs in memory as it grows, one line per model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hanok.report.figure.style import COLOURS, axis, layout, line
from hanok.report.parts import Figure, Plot, Table, Words


def cache_figure(lengths: Sequence[int], curves: Mapping[str, Sequence[int]], dtype: str) -> Figure:
    """Draw cache bytes against length; flat lines are windows that are full, or states of a fixed size."""
    data = [
        line(list(lengths), [max(1, size) / 2**20 for size in sizes], name, COLOURS[at % len(COLOURS)])
        for at, (name, sizes) in enumerate(curves.items())
    ]
    ticks = {"tickvals": list(lengths), "ticktext": [f"{n // 1024}K" if n >= 1024 else str(n) for n in lengths]}
    shape = layout(axis("tokens", type="log", **ticks), axis("MiB", type="log"), height=460)
    title = Words("Memory of one sequence", "시퀀스 하나의 메모리")
    table = Table(("model", *map(str, lengths)), [[name, *sizes] for name, sizes in curves.items()])
    note = Words(
        f"Bytes of keys, values, latents and states in {dtype}, counted by structure; weights are not included.",
        f"{dtype} 기준 키, 값, 잠재 벡터, 상태의 바이트를 구조에서 센 값이며 가중치는 포함하지 않습니다.",
    )
    return Figure("cache", (Plot("cache", title, data, shape, wide=True, log=True),), table, note)
