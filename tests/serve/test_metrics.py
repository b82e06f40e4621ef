"""`/metrics`: our names, vLLM's names beside them, and figures that add up."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hanok.core.errors import UsageError
from hanok.engine.local import LLM
from hanok.serve import Server
from hanok.serve.metrics import Metrics

from .wire import send

NAMES = [
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
    "prompt_tokens_total",
    "generation_tokens_total",
    "request_success_total",
    "time_to_first_token_seconds_count",
    "inter_token_latency_seconds_count",
    "e2e_request_latency_seconds_count",
    "request_decode_time_seconds_count",
    "request_queue_time_seconds_count",
    "request_prefill_time_seconds_count",
    "num_preemptions_total",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
    "request_prompt_tokens_sum",
    "request_generation_tokens_sum",
]


def scrape(server: Server) -> dict[str, float]:
    text = send(server.url, "/metrics")[2].decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert all(sample.labels["model_name"] == "tiny" for sample in samples)
    totals: dict[str, float] = {}
    for sample in samples:
        totals[sample.name] = totals.get(sample.name, 0) + sample.value
    return totals


def test_counts_follow_the_requests_under_both_names(llm: LLM) -> None:
    with Server(llm, port=0, model_name="tiny", metrics_compat="vllm") as server:
        body = {"prompt": [5, 6, 7], "max_tokens": 6, "ignore_eos": True, "n": 2}
        assert send(server.url, "/v1/completions", body)[0] == 200
        totals = scrape(server)
        for prefix in ("hanok", "vllm"):
            assert not [name for name in NAMES if f"{prefix}:{name}" not in totals]
            assert (
                totals[f"{prefix}:generation_tokens_total"] == totals[f"{prefix}:request_generation_tokens_sum"] == 12
            )
            assert totals[f"{prefix}:request_prompt_tokens_sum"] == 6
            assert totals[f"{prefix}:request_success_total"] == 2
            assert totals[f"{prefix}:time_to_first_token_seconds_count"] == 2
            assert totals[f"{prefix}:inter_token_latency_seconds_count"] == 10
            assert totals[f"{prefix}:num_requests_running"] == totals[f"{prefix}:kv_cache_usage_perc"] == 0


def test_the_prefix_cache_counts_tokens(llm: LLM) -> None:
    with Server(llm, port=0, model_name="tiny") as server:
        for _ in range(2):
            assert send(server.url, "/v1/completions", {"prompt": [5] * 70, "max_tokens": 1})[0] == 200
        totals = scrape(server)
        assert totals["hanok:prefix_cache_queries_total"] == 140 and totals["hanok:prefix_cache_hits_total"] == 64
        assert totals["hanok:prefix_cache_pages"] == 2 and totals["hanok:kv_cache_usage_perc"] == 0
        assert (
            totals["hanok:request_queue_time_seconds_count"] == totals["hanok:request_prefill_time_seconds_count"] == 2
        )


def test_only_our_names_unless_asked(llm: LLM) -> None:
    with Server(llm, port=0, model_name="tiny") as server:
        assert send(server.url, "/v1/completions", {"prompt": [5], "max_tokens": 1})[0] == 200
        assert not [name for name in scrape(server) if not name.startswith("hanok:")]
    with pytest.raises(UsageError, match="vllm"):
        Metrics("tiny", lambda: None, compat="other")
