"""Filters: what keeps a document out of the training set, one file per published family of rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanok.core.config import PartConfig, spec_type
from hanok.core.registry import Registry
from hanok.text.data.filter.base import PageFilter as PageFilter

FILTERS: Registry[type[PageFilter]] = Registry("filter", __name__)

FilterSpec: Any = spec_type(FILTERS)  # a config's field type: "c4" or {"kind": "length", "min_words": 20}


def make_filter(spec: PartConfig | Mapping[str, Any] | str) -> PageFilter:
    """Return the filter of a config, a mapping with a `kind`, or a bare word with the published thresholds."""
    if isinstance(spec, PartConfig):
        return FILTERS[spec.kind](spec)
    data = {"kind": spec} if isinstance(spec, str) else spec
    chosen = FILTERS[str(data.get("kind"))]
    return chosen(chosen.Config.parse(data, where=f"filter {data.get('kind')}"))
