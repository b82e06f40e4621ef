"""Any stage that has no section of its own."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.report.parts import Section, Words, same
from hanok.report.run import Run
from hanok.report.show import figure


def other(run: Run, step: str, artifact: Artifact) -> Section:
    """Show a stage by its metrics."""
    facts = [(same(name), figure(value)) for name, value in artifact.metrics.items() if not isinstance(value, dict)]
    what = Words(f"A stage that makes {artifact.kind!r}.", f"{artifact.kind!r} 산출물을 만드는 단계입니다.")
    return Section(step, same(step), what, facts=facts, origins=[run.origin(artifact)])
