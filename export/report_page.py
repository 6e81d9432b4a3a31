"""The report as one page for people (placeholder while the helper writes it)."""

from .report import Report


def render_page(report: Report) -> bytes:
    return report.verdict.encode()
