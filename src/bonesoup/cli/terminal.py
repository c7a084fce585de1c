"""Print to the terminal: lines are plain text, not rich's markup, since they hold paths and names in brackets."""

from rich.console import Console, RenderableType

console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def print_tables(tables: RenderableType, width: int = 120) -> None:
    """Print tables in at least `width` columns."""
    Console(width=max(console.width, width), highlight=False, markup=False, emoji=False).print(tables)
