"""`/metrics`: counts and intervals under `hanok:*`, and under vLLM's names too where existing boards expect those."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hanok.core.errors import UsageError
from hanok.engine.request import Output
from hanok.engine.stats import Stats

SECONDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)

HISTOGRAMS = {
    "time_to_first_token_seconds": ("From admission to the first token", SECONDS),
    "inter_token_latency_seconds": ("Between two tokens of one answer", SECONDS),
    "e2e_request_latency_seconds": ("From admission to the last token", SECONDS),
    "request_queue_time_seconds": ("From arrival in the engine to the first step", SECONDS),
    "request_prefill_time_seconds": ("From the first step to the first token", SECONDS),
    "request_decode_time_seconds": ("From the first token to the last", SECONDS),
    "request_prompt_tokens": ("Prompt tokens per answer", TOKENS),
    "request_generation_tokens": ("Generated tokens per answer", TOKENS),
}


class Metrics:
    """The server's own registry; intervals come from one process's monotonic clock."""

    def __init__(self, model_name: str, stats: Callable[[], Stats | None], *, compat: str | None = None) -> None:
        if compat not in (None, "vllm"):
            raise UsageError(f"metrics_compat must be 'vllm' or nothing, not {compat!r}")
        self.registry = CollectorRegistry()
        prefixes = ("hanok",) if compat is None else ("hanok", compat)
        self._histograms = {
            name: [
                Histogram(f"{prefix}:{name}", text, ["model_name"], buckets=buckets, registry=self.registry).labels(
                    model_name
                )
                for prefix in prefixes
            ]
            for name, (text, buckets) in HISTOGRAMS.items()
        }
        self._finished = [
            Counter(
                f"{prefix}:request_success_total",
                "Answers that were finished",
                ["model_name", "finished_reason"],
                registry=self.registry,
            )
            for prefix in prefixes
        ]
        self._refused = Counter(
            "hanok:requests_rejected_total", "Requests refused with 429", ["model_name"], registry=self.registry
        ).labels(model_name)
        self._model_name = model_name
        self.registry.register(EngineCollector(prefixes, model_name, stats))

    def first_token(self, seconds: float) -> None:
        """Note the time to a first token."""
        self._observe("time_to_first_token_seconds", seconds)

    def next_tokens(self, seconds: float, count: int) -> None:
        """Note the time that each of `count` further tokens took."""
        for _ in range(count):
            self._observe("inter_token_latency_seconds", seconds)

    def finished(self, output: Output, *, seconds: float, decode: float) -> None:
        """Note a finished answer."""
        self._count(output.finish_reason)
        self._observe("e2e_request_latency_seconds", seconds)
        self._observe("request_decode_time_seconds", decode)
        for name, value in (("queue", output.queue_time), ("prefill", output.prefill_time)):
            if value is not None:  # it never got so far
                self._observe(f"request_{name}_time_seconds", value)
        self._observe("request_prompt_tokens", output.prompt_tokens)
        self._observe("request_generation_tokens", len(output.tokens))

    def aborted(self) -> None:
        """Note an answer that nobody waited for."""
        self._count("abort")

    def rejected(self) -> None:
        """Note a request that found the queue full."""
        self._refused.inc()

    def _count(self, reason: str) -> None:
        for counter in self._finished:
            counter.labels(self._model_name, reason).inc()

    def _observe(self, name: str, value: float) -> None:
        for histogram in self._histograms[name]:
            histogram.observe(value)


def render(parts: Iterable[Metrics]) -> bytes:
    """Return the text exposition of several models: each name once, with the samples of all."""
    return generate_latest(_Together([part.registry for part in parts]))


class _Together:
    """Several registries as one."""

    def __init__(self, registries: list[CollectorRegistry]) -> None:
        self._registries = registries

    def collect(self) -> Iterable[Metric]:
        """Return the families by name, each with the samples of every registry."""
        families: dict[str, Metric] = {}
        for registry in self._registries:
            for family in registry.collect():
                known = families.setdefault(family.name, family)
                if known is not family:
                    known.samples += family.samples
        return families.values()


class EngineCollector(Collector):
    """Reads the engine's state at the moment of the scrape."""

    def __init__(self, prefixes: tuple[str, ...], model_name: str, stats: Callable[[], Stats | None]) -> None:
        self._prefixes = prefixes
        self._model_name = model_name
        self._stats = stats

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield gauges and counters; nothing before the model is loaded."""
        stats = self._stats()
        if stats is None:
            return
        usage = stats.pages_used / max(1, stats.pages_total)
        gauges = {
            "num_requests_running": ("Sequences being computed", stats.running),
            "num_requests_waiting": ("Sequences waiting for a place", stats.waiting),
            "kv_cache_usage_perc": ("Share of the cache pages in use, 0 to 1", usage),
            "prefix_cache_pages": ("Cache pages that later requests can find, in use or not", stats.pages_cached),
            "prefix_cache_state_bytes": ("Recurrent states kept for later requests", stats.prefix_state_bytes),
        }
        counters = {
            "prompt_tokens": ("Prompt tokens computed", stats.prompt_tokens),
            "generation_tokens": ("Tokens generated", stats.generated_tokens),
            "prefix_cache_queries": ("Prompt tokens looked up in the prefix cache", stats.prefix_queries),
            "prefix_cache_hits": ("Prompt tokens found there, and not computed", stats.prefix_hits),
            "num_preemptions": ("Running sequences that were sent back to wait", stats.preemptions),
            "spec_decode_num_drafts": ("Runs of guessed tokens that were checked", stats.drafts),
            "spec_decode_num_draft_tokens": ("Tokens guessed and checked", stats.drafted_tokens),
            "spec_decode_num_accepted_tokens": ("Guessed tokens that became text", stats.accepted_tokens),
        }
        for prefix in self._prefixes:
            for name, (text, value) in gauges.items():
                gauge = GaugeMetricFamily(f"{prefix}:{name}", text, labels=["model_name"])
                gauge.add_metric([self._model_name], value)
                yield gauge
            for name, (text, value) in counters.items():
                counter = CounterMetricFamily(f"{prefix}:{name}", text, labels=["model_name"])
                counter.add_metric([self._model_name], value)
                yield counter
