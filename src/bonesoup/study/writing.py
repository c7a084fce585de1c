"""Write numbers over seeds as text, and rows as a Markdown table."""

from collections.abc import Collection

from bonesoup.evaluation.tables import number
from bonesoup.study.statistics import Mean, mean

NONE = ""


def averaged(values: list[list[float]]) -> Mean:
    """Average the values of [value, low, high] over seeds."""
    return mean([value for value, _, _ in values])


def over_seeds(metric: str, values: list[list[float]], signed: bool = False) -> str:
    """Write the mean of [value, low, high] over seeds; empty if there is none."""
    return written(metric, averaged(values), signed) if values else NONE


def written(metric: str, average: Mean, signed: bool = False) -> str:
    """Write a mean with half its interval, to the digits that suit its metric."""
    text = number(metric, average.value, signed)
    return text if average.half is None else f"{text} ± {number(metric, average.half)}"


def rendered(rows: list[dict[str, str]], words: Collection[str] = ()) -> str:
    """Render rows as a Markdown table without empty columns; the first two and `words` hold no numbers."""
    columns = [column for column in rows[0] if any(row[column] for row in rows)] if rows else []
    lines = [columns, ["---" if k < 2 or column in words else "---:" for k, column in enumerate(columns)]]
    lines += [[row[column] for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
