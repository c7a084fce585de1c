"""The tables of a report in Markdown, for documents."""

from collections.abc import Iterable, Sequence

from bonesoup.evaluation import gaming, quality, refusals, tables
from bonesoup.evaluation.units import UNITS


def markdown(report: dict) -> str:
    """Write report.json as Markdown: every table, then the sentences."""
    parts = []
    for key, grid in report["grids"].items():
        for unit in (unit for unit in UNITS if unit in grid):
            keys = tables.metrics_shown(grid, unit)
            headings = ["method", *(tables.label(metric) for metric in keys)]
            cells = (_row(line, keys) for line in tables.rows(grid, unit))
            parts.append(_table(tables.title(key, grid, unit), headings, cells))
    parts += [_table(*listed) for listed in quality.listed(report)]
    if compared := gaming.rows(report):
        parts.append(_table(gaming.TITLE, gaming.HEADINGS, compared))
    if refused := refusals.rows(report):
        parts.append(_table(refusals.TITLE, refusals.headings(report), refused))
    if costs := tables.cost_rows(report):
        headings = ["", *(heading for heading, _ in tables.COSTS.values())]
        parts.append(_table("Costs", headings, ([name, *cells] for name, cells in costs)))
    sentences = [
        *gaming.hints(report),
        *tables.choices(report),
        tables.notes(report),
        *quality.note(report),
        report["finding"],
    ]
    return "\n\n".join([*parts, *sentences]) + "\n"


def _row(line: dict, keys: list[str]) -> list[str]:
    cells = [line["cells"].get(metric) for metric in keys]
    texts = [f"{cell['text']} {cell['interval']}" if cell else "" for cell in cells]
    return ["↳ " * (line["kind"] == "difference") + line["name"], *texts]


def _table(title: str, headings: Sequence[str], rows: Iterable[list[str]]) -> str:
    ruler = "|---" + "|---:" * (len(headings) - 1) + "|"
    lines = ["".join(f"| {cell} " if cell else "| " for cell in row) + "|" for row in ([*headings], *rows)]
    return "\n".join([f"**{title}**\n", lines[0], ruler, *lines[1:]])
