"""The metrics of all workers as one page: counts and intervals added up, over restarts too."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

Key = tuple[str, tuple[tuple[str, str], ...]]
SHARES = ("_perc", "_ratio")  # gauges that are shares: of these the mean is told


class Page:
    """One exposition, read: families by name, and the value of each series."""

    def __init__(self, text: str) -> None:
        self.families: dict[str, tuple[str, str]] = {}
        self.values: dict[str, dict[Key, float]] = {}
        for family in text_string_to_metric_families(text):
            if family.name.endswith("_created"):
                continue
            self.families[family.name] = (family.documentation, family.type)
            series = self.values.setdefault(family.name, {})
            for sample in family.samples:
                series[sample.name, tuple(sorted(sample.labels.items()))] = sample.value


class Totals:
    """Adds pages up. What a worker had counted when its process ended stays in the sums."""

    def __init__(self) -> None:
        self._last: dict[int, Page] = {}
        self._lost: dict[str, dict[Key, float]] = {}
        self._lock = threading.Lock()

    def ended(self, number: int) -> None:
        """Keep what a worker had counted as far as it was seen: its process begins at zero again."""
        with self._lock:
            page = self._last.pop(number, None)
            for name, series in page.values.items() if page else ():
                if page is not None and page.families[name][1] != "gauge":
                    add(self._lost.setdefault(name, {}), series)

    def render(self, texts: Mapping[int, str], own: Iterable[tuple[str, str, str, float]]) -> bytes:
        """Return the sum of the workers' pages, and the router's own (name, type, help, value)."""
        with self._lock:
            self._last |= {number: Page(text) for number, text in texts.items()}
            pages = [self._last[number] for number in texts]
            return generate_latest(_registry([*self._summed(pages), *_own(own)]))

    def _summed(self, pages: list[Page]) -> Iterator[Metric]:
        families = {name: what for page in pages for name, what in page.families.items()}
        for name, (text, kind) in families.items():
            total: dict[Key, float] = {}
            for page in pages:
                add(total, page.values.get(name, {}))
            if name.endswith(SHARES):
                total = {key: value / len(pages) for key, value in total.items()}
            add(total, self._lost.get(name, {}))
            metric = Metric(name, text, kind)
            for (series, labels), value in total.items():
                metric.add_sample(series, dict(labels), value)
            yield metric


def add(total: dict[Key, float], series: Mapping[Key, float]) -> None:
    """Add series to a total, in place."""
    for key, value in series.items():
        total[key] = total.get(key, 0.0) + value


def _own(rows: Iterable[tuple[str, str, str, float]]) -> Iterator[Metric]:
    for name, kind, text, value in rows:
        family = CounterMetricFamily(name, text) if kind == "counter" else GaugeMetricFamily(name, text)
        family.add_metric([], value)
        yield family


def _registry(metrics: list[Metric]) -> CollectorRegistry:
    class All(Collector):
        def collect(self) -> Iterable[Metric]:
            return metrics

    registry = CollectorRegistry()
    registry.register(All())
    return registry
