"""A decision as plain data and as a table."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bonesoup.promotion.champion import DEMOTED, KEPT, PROMOTED, ROLLED_BACK, Decision

GRANTED = (PROMOTED, KEPT, DEMOTED, ROLLED_BACK)


def granted(decision: Decision) -> bool:
    """Whether what was asked for was done, or with --dry-run would be."""
    return decision.verdict in GRANTED


def plain(decision: Decision) -> dict[str, Any]:
    return decision.plain() | {"granted": granted(decision), "summary": sentence(decision)}


def sentence(decision: Decision) -> str:
    would = "would be " if decision.dry_run and decision.verdict != KEPT else ""
    if decision.verdict == KEPT:
        text = f"{decision.version} is the champion already"
    elif decision.action == "promote":
        text = f"{decision.version} {would}{decision.verdict}"
        text += f", judged against {decision.incumbent}" if decision.incumbent else ""
        text += ", by force" if decision.forced else ""
    elif decision.verdict == ROLLED_BACK and decision.before is None:
        text = f"{decision.version} is champion again: its demotion is taken back"
    else:
        text = f"{decision.version} {decision.verdict}; champion: {decision.after or 'nobody'}"
    return f"{text}. {decision.note}" if decision.note else f"{text}."


def terminal(found: dict[str, Any]) -> Group:
    """What `plain` gives, for a terminal."""
    parts: list[Table | Text] = []
    if found["checks"]:
        table = Table(box=SIMPLE_HEAD)
        for name in ("check", "found", "demanded", ""):
            table.add_column(name)
        for check in found["checks"]:
            value = (
                "" if check["value"] is None else f"{check['value']:+.3f} [{check['low']:+.3f}, {check['high']:+.3f}]"
            )
            passed = Text("passed", style="green") if check["passed"] else Text("failed", style="red")
            table.add_row(check["name"], value, check["demand"], passed)
        parts.append(table)
    parts.append(Text(found["summary"], style="bold"))
    parts += [Text(line) for line in found["merged"]]
    if not found["dry_run"] and found["verdict"] != KEPT:
        where = f"Evidence: decisions/{found['time']}.json in the run of {found['version']}."
        yardstick = f"Yardstick {found['yardstick']}. " if found["yardstick"] else ""
        parts.append(Text(yardstick + where, style="dim"))
    return Group(*parts)
