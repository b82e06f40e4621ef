"""OpenTelemetry: one span per request, with the names of its conventions for generative models."""

from __future__ import annotations

from typing import Any

from hanok import __version__
from hanok.core.errors import require
from hanok.serve.log import Told

OPERATIONS = {"/v1/completions": "text_completion", "/v1/embeddings": "embeddings"}


class Spans:
    """Sends a span for each request that is over, under its caller's trace where there is one.

    A provider that the program has set up is used; else one that exports to `OTEL_EXPORTER_OTLP_ENDPOINT`.
    """

    def __init__(self, provider: Any = None) -> None:
        trace = require("opentelemetry.trace", extra="otel")
        if provider is None:
            provider = trace.get_tracer_provider()
            if isinstance(provider, trace.ProxyTracerProvider):
                provider = _exporting()
        self._tracer = provider.get_tracer("hanok", __version__)
        self._trace = trace

    def __call__(self, told: Told) -> None:
        """Send the span of a request; requests without a model have none."""
        model = told.note.get("model")
        if model is None:
            return
        propagate = require("opentelemetry.propagate", extra="otel")
        operation = OPERATIONS.get(told.path, "chat")
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "hanok",
            "gen_ai.request.model": model,
            "gen_ai.usage.input_tokens": told.note.get("prompt_tokens", 0),
            "gen_ai.usage.output_tokens": told.note.get("completion_tokens", 0),
            "http.request.method": told.method,
            "http.response.status_code": told.status,
            "url.path": told.path,
        }
        span = self._tracer.start_span(
            f"{operation} {model}",
            context=propagate.extract({"traceparent": told.parent}) if told.parent else None,
            kind=self._trace.SpanKind.SERVER,
            start_time=told.begun,
            attributes=attributes,
        )
        if told.status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(told.begun + int(told.seconds * 1e9))


def _exporting() -> Any:
    sdk = require("opentelemetry.sdk.trace", extra="otel")
    export = require("opentelemetry.sdk.trace.export", extra="otel")
    otlp = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", extra="otel")
    resource = require("opentelemetry.sdk.resources", extra="otel").Resource.create({"service.name": "hanok"})
    provider = sdk.TracerProvider(resource=resource)
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    return provider
