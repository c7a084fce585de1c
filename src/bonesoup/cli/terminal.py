"""Print to the terminal: lines are plain text, not rich's markup, since they hold paths and names in brackets."""

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table

console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def titled(title: str, **options) -> Table:
    """Begin a table with a title, rules under its header alone."""
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, **options)


def print_tables(tables: RenderableType, width: int = 120) -> None:
    """Print tables in at least `width` columns."""
    Console(width=max(console.width, width), highlight=False, markup=False, emoji=False).print(tables)
