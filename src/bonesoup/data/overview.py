"""Write a page over all expectations that needs no network, unlike the pages of Great Expectations."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

NAME = "overview.html"


def write_overview(docs: Path, checks: list[dict]) -> None:
    """Write docs/overview.html.

    Args:
        docs: the folder with the built data docs.
        checks: one per expectation: {"table", "expectation", "detail", "success"}.
    """
    tables = [
        {
            "name": name,
            "page": next(p.relative_to(docs).as_posix() for p in docs.glob(f"validations/{name}/**/*.html")),
            "checks": [check for check in checks if check["table"].replace("/", "-") == name],
        }
        for name in dict.fromkeys(check["table"].replace("/", "-") for check in checks)
    ]
    loader = Environment(
        loader=PackageLoader("bonesoup.data", "."), autoescape=select_autoescape(), undefined=StrictUndefined
    )
    failed = sum(not check["success"] for check in checks)
    page = loader.get_template(NAME).render(tables=tables, total=len(checks), failed=failed)
    (docs / NAME).write_text(page, encoding="utf-8")
