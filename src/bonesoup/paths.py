"""Name the paths of the pipeline, relative to the project's root, as dvc.yaml does."""

from pathlib import Path

OUT = Path("out")
TIDY = OUT / "tidy.json"
DATA = OUT / "data"
DATA_DOCS = OUT / "docs/data"
PROMPTS = DATA / "prompts.jsonl"
SFT_ROWS = DATA / "sft.jsonl"
SUMMARY = DATA / "summary.json"
BASE = OUT / "base"
SFT = OUT / "sft"
REWARDS = OUT / "rewards"
GATES = OUT / "gates"
NORMALISER = OUT / "normaliser.json"
PROBES = OUT / "probes"
# Folder in a policy that comes with a base of its own.
OWN_BASE = "base"
BETA = OUT / "beta.json"
ROWS = OUT / "rows"
POLICIES = OUT / "policies"
RIC = OUT / "ric"
RECIPES = OUT / "recipes"
SOUPS = OUT / "soups"
CHOICE = OUT / "choice.json"
FRONTS = OUT / "fronts"
REPORT = OUT / "report"
METRICS = OUT / "metrics"
MEASURED = METRICS / "fronts.json"
REGISTERED = OUT / "registered.json"
# Later runs resume from here.
SCRATCH = Path("scratch")
# Downloaded models, each under its digest.
MODELS = Path("var/models")
TIMES = Path("var/stages.jsonl")
# Of unfinished studies, the clones of their cells.
STUDIES = Path("var/study")
