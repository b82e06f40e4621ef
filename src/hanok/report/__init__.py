"""Floor 6: one self-contained HTML page about a run, built from its artifacts alone."""

from hanok.report.find import find_artifacts
from hanok.report.write import write_report

__all__ = ["find_artifacts", "write_report"]
