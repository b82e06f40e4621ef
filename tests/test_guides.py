"""The guides are run: every Python block of a page, in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hanok.model.families import FAMILIES
from hanok.nn.mixer import MIXERS
from hanok.nn.position import POSITIONS

GUIDES = sorted((Path(__file__).parents[1] / "docs" / "guide").glob("*.md"))
BLOCK = re.compile(r"(<!-- no-test[^>]*-->\n)?```python\n(.*?)```", re.S)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_guide_runs(guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registries = (FAMILIES, MIXERS, POSITIONS)
    before = [set(registry) for registry in registries]
    namespace: dict[str, object] = {"__name__": guide.stem}
    try:
        for skipped, code in BLOCK.findall(guide.read_text(encoding="utf-8")):
            if not skipped:
                exec(compile(code, guide.name, "exec", dont_inherit=True), namespace)
    finally:
        for registry, names in zip(registries, before, strict=True):
            for name in set(registry) - names:  # what a page adds is not there for other tests
                del registry._items[name]
                del registry._papers[name]
