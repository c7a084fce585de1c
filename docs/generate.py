"""Make the pages and blocks of the documentation that come from the code or from a run, so that they cannot drift.

    python docs/generate.py              write settings.md (from the settings classes), cli.md (from the commands) and
                                         the tables of evidence.md (from studies/results)
    python docs/generate.py --check      exit with 1 if one is out of date
    python docs/generate.py --measured [PROFILE]
                                         also put the numbers of the finished run in out/ into the documents

Numbers stand between <!-- NAME:begin --> and <!-- NAME:end -->: in docs/results.md under the name of the profile
that ran, and for the default (embedded) also in README.md and docs/running.md.
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import typer
from ruamel.yaml import YAML

from bonesoup.cli.main import app
from bonesoup.settings.profiles import DEFAULT
from bonesoup.settings.schema import Settings

DOCS = Path(__file__).parent
ROOT = DOCS.parent

SETTINGS_INTRO = """\
# Settings

`params.yaml` holds every value that a run depends on. This page lists its keys.

Change it with an editor, with `bonesoup profile --set KEY=VALUE`, or for one experiment with
`dvc exp run -S KEY=VALUE`. `bonesoup profile NAME` replaces it with a profile. The whole file is checked before
anything runs, and all faults are reported at once. No environment variable overrides a value.

- **default:** the value of a key that is left out. *Required* keys have none; copy them from `profiles/embedded.yaml`.
- **filled in:** `bonesoup profile` writes the value, because it follows from others.
- **`<name>`:** a name of your choice, of lower-case letters, digits, `-` and `_`, starting with a letter.
"""

RULES = """\
## Rules that span keys

**Objectives and preferences**

- `objectives` repeats no name, and `rewards` has exactly one entry for each.
- A preference (`preferences.<name>`, or a row of `oracles`) has one weight per objective. No weight is negative, and
  they sum to 1.
- A row of `oracles` lies on the evaluation grid: its weights are multiples of 1/`evaluation.parts`. No row is repeated.

**Basis**

- `basis.beta` and every one of `seek.betas` lie in (1/n, 1] for n objectives. At 1/n all backbones would be the same
  policy.
- A beta or `basis.rows` that needs large coefficients is refused: their L1 norm may not pass 10 at any preference.
- `basis.beta: auto` needs a circulant basis, and preferences in `basis.distribution` other than the even one.

**Policies**

- `policies` trains each slot that `methods` needs exactly once, and no other. `rewarded` needs specialist-1 to -n,
  `bone` one backbone for each row of the basis, `lattice` and `curved` one slot for each objective and each pair of
  them, `clp` one for each objective, `prompt` one, `oracle` one for each row of `oracles`.
- `rl.micro_batch` divides `rl.prompts` * `rl.generations`.
- `rl.lora.dropout` is 0. RLOO switches dropout off, so any other value would have no effect.
- `register.merged` names keys of `preferences`. `register.method` is one of `methods`, or `auto` if one of them can be
  served. The default profile says `auto`; where the key is missing, it means `bone`.

**Data**

- `data.validation` + `data.test` is below 1. The embedded source needs `data.sizes`.
- `data.labels` repeats no name and lists only objectives that the source has labels for: helpful, harmless and humor
  (embedded), relevance, factuality and completeness (qa-feedback), or any name (other sources).
- A `pairs`, `labels` or `head` reward reads `out/data/rewards/<objective>.jsonl`, which `prepare` writes for objectives
  in `data.labels`.
- `labels` rewards are trained on qa-feedback only, `pairs` rewards on the other sources. A file in the hh-rlhf or
  summarize-from-feedback format states one preference, so it trains one reward; with `source: files` every objective
  has a file of its own, and `data.labels` are the objectives of `data.files`.
- A `pretrained` reward states its `input` and `logit`.

**Pins**

- What comes from the Hugging Face Hub is pinned to a commit: `data.hub` needs `data.revision`; a Hub id in
  `model.source` or `rewards.<objective>.model` needs the `revision` of its section.
- A GGUF file or a Python package needs `model.sha256`.
"""


def settings_page() -> str:
    """Write every key of params.yaml, from the JSON schema of the settings classes."""
    schema = Settings.model_json_schema(by_alias=True)
    parts = [SETTINGS_INTRO, _stages_table()]
    plain, sections = [], []
    for key, field in schema["properties"].items():
        if key == "rewards":
            sections.append(_rewards(schema, field))
        elif _section(schema, field) or _entries(schema, field):
            about = _about(schema, field)
            sections.append(f"## {key}\n\n{about}{_table(_rows(schema, key, field, key in schema['required']))}")
        else:
            plain += _rows(schema, key, field, key in schema["required"])
    return "\n".join([*parts, f"## Top level\n\n{_table(plain)}", *sections, RULES])


def _about(schema: dict, field: dict) -> str:
    """Return the description of the section behind a key, as a paragraph."""
    section = _section(schema, field) or _entries(schema, field)
    return f"{section['description']}\n\n" if "description" in section else ""


def _rewards(schema: dict, field: dict) -> str:
    """Write a section for each kind of reward."""
    union = _values(field)
    text = [
        "## rewards\n",
        "One reward for each objective. `kind` decides which other keys it has; [objective.md](objective.md) shows "
        "each kind.\n",
    ]
    for kind, reference in union["discriminator"]["mapping"].items():
        model = _resolve(schema, {"$ref": reference})
        text.append(f"### kind: {kind}\n\n{model['description']}\n")
        text.append(_table(_members(schema, "rewards.<objective>", model)))
    return "\n".join(text)


def _rows(schema: dict, name: str, field: dict, required: bool) -> list[list[str]]:
    """Write the table rows of one key and of the keys below it."""
    if entry := _entries(schema, field):
        return _members(schema, f"{name}.<name>", entry)
    optional = [entry for option in field.get("anyOf", []) if (entry := _entries(schema, option))]
    section = _section(schema, field)
    if section and required:
        return _members(schema, name, section)
    default = "*required*" if required else f"`{json.dumps(field.get('default'))}`"
    kind, allowed = _kind(schema, field)
    what = field.get("description", "selects this section" if "const" in field else "")
    row = [f"`{name}`", kind, default, allowed, what]
    inner = _members(schema, name, section) if section else []
    return [row, *inner, *(key for entry in optional for key in _members(schema, f"{name}.<name>", entry))]


def _members(schema: dict, prefix: str, model: dict) -> list[list[str]]:
    rows = []
    # The key that selects a section comes first.
    for key, field in sorted(model["properties"].items(), key=lambda item: "const" not in item[1]):
        rows += _rows(schema, f"{prefix}.{key}", field, key in model.get("required", []))
    return rows


def _resolve(schema: dict, field: dict) -> dict:
    reference = field.get("$ref", "")
    return schema["$defs"][reference.rpartition("/")[2]] if reference else field


def _section(schema: dict, field: dict) -> dict | None:
    """Return the settings class behind a key, even if it is optional."""
    for option in [field, *field.get("anyOf", [])]:
        if "properties" in (resolved := _resolve(schema, option)):
            return resolved
    return None


def _entries(schema: dict, field: dict) -> dict | None:
    """Return the settings class of each entry, if a key holds named sections."""
    return _section(schema, _values(field)) if _values(field) else None


def _values(field: dict) -> dict | None:
    """Return the schema of the values of a mapping with free names."""
    return next(iter(field.get("patternProperties", {}).values()), field.get("additionalProperties"))


def _kind(schema: dict, field: dict) -> tuple[str, str]:
    """Return (type, allowed values) of a key, in words."""
    if "anyOf" in field:
        listed = [_kind(schema, option) for option in field["anyOf"]]
        kinds = dict.fromkeys(kind for kind, _ in listed)
        return " or ".join(kinds), ", ".join(filter(None, (values for _, values in listed)))
    field = _resolve(schema, field)
    if "properties" in field:
        return "section", ""
    if "const" in field or "enum" in field:
        values = field.get("enum", [field.get("const")])
        return "string", ", ".join(f"`{value}`" for value in values)
    if field["type"] == "array":
        kind, allowed = _kind(schema, field["items"])
        least = f"at least {field['minItems']}" if "minItems" in field else ""
        return f"list of {_plural(kind)}", "; ".join(filter(None, (least, allowed)))
    if field["type"] == "object":
        kind, allowed = _kind(schema, _values(field))
        return f"mapping to {_plural(kind)}", allowed
    return field["type"], _bounds(field)


def _plural(kind: str) -> str:
    """Put a kind into the plural: 'list of integers' becomes 'lists of integers'."""
    first, space, rest = kind.partition(" ")
    return f"{first}s{space}{rest}"


def _bounds(field: dict) -> str:
    found = [f"{sign} {field[key]:g}" for key, sign in _SIGNS.items() if key in field]
    if "pattern" in field:
        found.append(f"matches `{field['pattern']}`")
    return ", ".join(found)


_SIGNS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


def _table(rows: list[list[str]]) -> str:
    head = ["key", "type", "default", "allowed", "meaning"]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_escape, line)) + " |" for line in lines) + "\n"


def _escape(cell: str) -> str:
    """Keep a table cell whole, and <names> from being read as HTML outside code."""
    parts = cell.replace("|", "\\|").split("`")
    parts[::2] = [part.replace("<", "\\<") for part in parts[::2]]
    return "`".join(parts)


def _stages_table() -> str:
    """Write which keys each stage reads, from dvc.yaml."""
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    lines = ["| stage | keys it reads |", "|---|---|"]
    for name, stage in stages.items():
        body = stage.get("do", stage)
        keys = [re.sub(r"\$\{\w+\}", "<name>", str(key)) for key in body.get("params", [])]
        read = ", ".join(f"`{key}`" for key in keys)
        if "params.yaml" in body["deps"]:
            read = "the whole file"
        title = f"{name}@<name>" if "foreach" in stage else name
        lines.append(f"| `{title}` | {read} |")
    return (
        "## What a change re-runs\n\nA changed key re-runs the stages that read it. If their results come out "
        "different, the stages that read those results run too.\n\n" + "\n".join(lines) + "\n"
    )


CLI_INTRO = """\
# Command line

Run `bonesoup` in the project's folder. `bonesoup COMMAND --help` prints the same.

| exit status | meaning |
|---|---|
| 0 | done |
| 1 | failed, or refused |
| 2 | wrong usage |
| 130 | interrupted |

Errors go to standard error as one message. `bonesoup --debug COMMAND` adds the traceback.
"""


def cli_page() -> str:
    """Write every command with its help, arguments, options and example."""
    group = typer.main.get_command(app)
    first = {name: " ".join(command.help.split("\n\n")[0].split()) for name, command in group.commands.items()}
    overview = [f"| [{name}](#bonesoup-{name}) | {text} |" for name, text in first.items()]
    parts = [CLI_INTRO, "\n".join(["| command | what it does |", "|---|---|", *overview]) + "\n"]
    for name, command in group.commands.items():
        text, *examples = command.help.split("Example:")
        context = command.make_context(name, [], resilient_parsing=True)
        usage = " ".join(["bonesoup", name, *command.collect_usage_pieces(context)]).replace("{name}", "name")
        parts.append(f"## bonesoup {name}\n\n{' '.join(text.split())}\n\nUsage: `{usage}`\n")
        rows = [_parameter(parameter, context) for parameter in command.params]
        if rows:
            lines = ["| argument or option | default | meaning |", "|---|---|---|", *rows]
            parts.append("\n".join(lines) + "\n")
        parts.append("\n".join(["```bash", *(example.strip() for example in examples), "```\n"]))
    return "\n".join(parts)


def _parameter(parameter, context) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.name.upper() + "..." * (parameter.nargs == -1)
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or _metavar(parameter.display_type(context))}"
        name = "`, `".join([*parameter.opts, *parameter.secondary_opts]) + value
    if parameter.required:
        default = "*required*"
    elif parameter.param_type_name == "option" and parameter.is_flag:
        default = f"`{(parameter.opts if parameter.default else parameter.secondary_opts or ['off'])[0]}`"
    else:
        default = "" if parameter.default is None else f"`{parameter.default}`"
    return f"| `{name}` | {default} | {parameter.help} |"


def _metavar(kind: str) -> str:
    """Name the value of an option: its type, or the choices it has."""
    return _METAVARS.get(kind) or kind.strip("<>").replace("|", "\\|")


_METAVARS = {
    "<str>": "TEXT",
    "<list[str]>": "TEXT",
    "<int>": "INTEGER",
    "<int range>": "INTEGER",
    "<float>": "NUMBER",
    "<float range>": "NUMBER",
    "<path>": "PATH",
}


def evidence_page() -> str:
    """Return docs/evidence.md with the tables of the finished cells in its blocks `study NAME`."""
    from bonesoup.study import results, table

    text = (DOCS / "evidence.md").read_text(encoding="utf-8")
    for name in re.findall(r"<!-- study (\S+):begin -->", text):
        shown = table.of_study(name) if results.read(name) else "No cell is finished yet."
        text = fill(text, f"study {name}", shown)
    return text.rstrip("\n")


PAGES = {DOCS / "settings.md": settings_page, DOCS / "cli.md": cli_page, DOCS / "evidence.md": evidence_page}


def stale() -> list[str]:
    """List the generated pages that differ from the code."""
    return [
        path.name
        for path, make in PAGES.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != make() + "\n"
    ]


def fill(text: str, name: str, content: str) -> str:
    """Return `text` with the content between the marks of block `name` replaced.

    Raises:
        ValueError: the text has no such block.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if begin not in text or end not in text:
        raise ValueError(f"no block {begin} ... {end}")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n{content.strip()}\n{end}{rest.split(end, 1)[1]}"


def stage_times(last: dict[str, dict]) -> str:
    """Write a table of the last run of each stage."""
    table = ["| stage | wall time, s | peak memory, MB |", "|---|---:|---:|"]
    table += [f"| `{name}` | {row['seconds']:.1f} | {row['peak_mb']} |" for name, row in last.items()]
    total = sum(row["seconds"] for row in last.values())
    return "\n".join([*table, f"| sum | {total:.0f} | |"])


def measured(block: str) -> None:
    """Put the numbers of the finished run in out/ into the block of docs/results.md named after its profile.

    The default's also go to README.md, docs/running.md (var/stages.jsonl) and docs/fronts.png.
    """
    from bonesoup.evaluation.markdown import markdown
    from bonesoup.workspace import repro

    found = json.loads((ROOT / "out/metrics/report.json").read_text(encoding="utf-8"))
    _fill_file(DOCS / "results.md", block, markdown(found))
    if block == DEFAULT:
        _fill_file(ROOT / "README.md", "table", markdown_main(found))
        _fill_file(DOCS / "running.md", "stages", stage_times(repro.times(ROOT / "var/stages.jsonl")))
        shutil.copyfile(ROOT / "out/report/fronts.png", DOCS / "fronts.png")


def _fill_file(path: Path, block: str, content: str) -> None:
    path.write_text(fill(path.read_text(encoding="utf-8"), block, content), encoding="utf-8")


def markdown_main(report: dict) -> str:
    """Render what a reader needs first: utilities on the whole grid, in the truest unit, and the finding about them."""
    from bonesoup.evaluation import tables
    from bonesoup.evaluation.units import UNITS

    key, grid = next(iter(report["grids"].items()))
    unit = next(unit for unit in UNITS if unit in grid)
    metrics = [key for key in tables.metrics_shown(grid, unit, main=True) if key.startswith("inner_product")]
    lines = ["| | " + " | ".join(tables.label(metric) for metric in metrics) + " |"]
    lines.append("|---" + "|---:" * len(metrics) + "|")
    for row in tables.rows(grid, unit):
        cells = [row["cells"].get(metric) for metric in metrics]
        texts = [f"{cell['text']} ± {cell['half']}" if cell else "" for cell in cells]
        lines.append(f"| {'↳ ' * (row['kind'] == 'difference')}{row['name']} | " + " | ".join(texts) + " |")
    title = tables.title(key, grid, unit)
    return "\n".join([*lines, "", f"{title}; ± is half a 95% interval over test prompts. {report['finding']}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is out of date")
    parser.add_argument(
        "--measured",
        nargs="?",
        const=DEFAULT,
        metavar="PROFILE",
        help=f"also put the numbers of the last run into the documents; {DEFAULT} by default",
    )
    arguments = parser.parse_args()
    if arguments.check:
        if old := stale():
            sys.exit(f"docs/{', docs/'.join(old)}: out of date; run `make docs`")
        return
    for path, make in PAGES.items():
        path.write_text(make() + "\n", encoding="utf-8")
    if arguments.measured:
        measured(arguments.measured)


if __name__ == "__main__":
    main()
