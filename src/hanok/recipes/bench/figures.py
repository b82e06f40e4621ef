"""What was measured about answers, and the figures that people compare: TTFT, TPOT, ITL, E2EL, goodput.

TTFT is the time to the first token, E2EL to the last one, TPOT the mean time per token behind the first
((E2EL - TTFT) / (tokens - 1)), ITL the time between two arrivals, each of which may bring several tokens. The names of
the figures are those of vLLM's `bench serve`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hanok.core.errors import UsageError

METRICS = {
    "ttft": "Time to First Token",
    "tpot": "Time per Output Token (excl. 1st token)",
    "itl": "Inter-token Latency",
    "e2el": "End-to-end Latency",
}
LIMITS = ("ttft", "tpot", "e2el")  # what a request can be judged by
PERCENTILES = (50.0, 90.0, 99.0)


@dataclass
class Sample:
    """One request as its sender saw it; times are seconds on one clock, `arrivals` those at which tokens came."""

    sent: float
    prompt_tokens: int
    output_tokens: int = 0
    arrivals: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def ok(self) -> bool:
        """Say whether it was answered to its end."""
        return not self.error and bool(self.arrivals)

    @property
    def ttft(self) -> float:
        """Return the seconds to the first token."""
        return self.arrivals[0] - self.sent

    @property
    def e2el(self) -> float:
        """Return the seconds to the last token."""
        return self.arrivals[-1] - self.sent

    @property
    def itl(self) -> list[float]:
        """Return the seconds between arrivals."""
        return [late - early for early, late in zip(self.arrivals, self.arrivals[1:], strict=False)]

    @property
    def tpot(self) -> float | None:
        """Return the seconds per token behind the first; None where there is only one."""
        return None if self.output_tokens < 2 else (self.e2el - self.ttft) / (self.output_tokens - 1)

    def within(self, slo: Mapping[str, float]) -> bool:
        """Say whether it was answered within the limits, in milliseconds; a single token has no TPOT to exceed."""
        return self.ok and all(1e3 * (getattr(self, name) or 0.0) <= limit for name, limit in slo.items())


def spread(seconds: Sequence[float], name: str, percentiles: Iterable[float] = PERCENTILES) -> dict[str, float]:
    """Return mean, median, standard deviation and percentiles in milliseconds, as `mean_<name>_ms` and so on."""
    if not seconds:
        return {}
    found = {"mean": statistics.fmean(seconds), "median": statistics.median(seconds), "std": float(np.std(seconds))}
    found |= {f"p{percent:g}": float(np.percentile(seconds, percent)) for percent in percentiles}
    return {f"{which}_{name}_ms": 1e3 * value for which, value in found.items()}


def summary(
    samples: Sequence[Sample],
    duration: float,
    *,
    slo: Mapping[str, float] | None = None,
    percentiles: Iterable[float] = PERCENTILES,
) -> dict[str, Any]:
    """Return the figures of a run of `duration` seconds; what failed is counted and enters no time or rate."""
    done = [sample for sample in samples if sample.ok]
    read, written = (sum(getattr(s, name) for s in done) for name in ("prompt_tokens", "output_tokens"))
    found: dict[str, Any] = {
        "completed": len(done),
        "failed": len(samples) - len(done),
        "duration": duration,
        "total_input_tokens": read,
        "total_output_tokens": written,
        "request_throughput": len(done) / duration,
        "output_throughput": written / duration,
        "total_token_throughput": (read + written) / duration,
    }
    if slo:
        found["slo"] = dict(slo)
        found["request_goodput"] = sum(sample.within(slo) for sample in done) / duration
    each = {
        "ttft": [s.ttft for s in done],
        "tpot": [s.tpot for s in done if s.tpot is not None],
        "itl": [gap for s in done for gap in s.itl],
        "e2el": [s.e2el for s in done],
    }
    for name, seconds in each.items():
        found |= spread(seconds, name, percentiles)
    errors = sorted({sample.error for sample in samples if sample.error})
    return found | ({"errors": errors[:5]} if errors else {})


def read_slo(words: Iterable[str]) -> dict[str, float]:
    """Return limits in milliseconds from words such as `ttft:200`."""
    slo: dict[str, float] = {}
    for word in words:
        name, _, text = word.partition(":")
        try:
            slo[name] = float(text)
        except ValueError:
            raise UsageError(f"--slo {word!r}: write a limit in milliseconds as ttft:200") from None
        if name not in LIMITS or not slo[name] > 0:
            raise UsageError(f"--slo {word!r}: the limits are {', '.join(LIMITS)}, each above 0 ms")
    return slo


def lines(found: Mapping[str, Any], percentiles: Iterable[float] = PERCENTILES) -> list[str]:
    """Return the figures as people read them, in the layout of vLLM's `bench serve`."""
    rows = [
        ("Successful requests:", found["completed"]),
        ("Failed requests:", found["failed"]),
        ("Benchmark duration (s):", found["duration"]),
        ("Total input tokens:", found["total_input_tokens"]),
        ("Total generated tokens:", found["total_output_tokens"]),
        ("Request throughput (req/s):", found["request_throughput"]),
        ("Output token throughput (tok/s):", found["output_throughput"]),
        ("Total token throughput (tok/s):", found["total_token_throughput"]),
    ]
    if "request_goodput" in found:
        rows.append(("Request goodput (req/s):", found["request_goodput"]))
    out = ["============ Serving Benchmark Result ============", *(_row(*row) for row in rows)]
    for name, title in METRICS.items():
        if f"mean_{name}_ms" not in found:
            continue
        out.append(title.center(50, "-"))
        for which in ("mean", "median", *(f"p{percent:g}" for percent in percentiles)):
            out.append(_row(f"{which.capitalize()} {name.upper()} (ms):", found[f"{which}_{name}_ms"]))
    out += [f"error: {error}" for error in found.get("errors", ())]
    return [*out, "=" * 50]


def _row(title: str, value: float) -> str:
    shown = f"{value:<10}" if isinstance(value, int) else f"{value:<10.2f}"
    return f"{title:<40}{shown}".rstrip()
