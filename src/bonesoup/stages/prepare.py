"""prepare: a data source -> prompts, SFT texts and reward data, split by prompt, validated, with data docs."""

from bonesoup.data.prepare import prepare
from bonesoup.paths import DATA, DATA_DOCS
from bonesoup.settings.schema import Settings


def run(settings: Settings, key: None) -> None:
    summary = prepare(settings.data, settings.seed, out=DATA, docs=DATA_DOCS)
    print(
        f"prepare: {summary['rows_read']} rows read, {summary['rows_quarantined']} quarantined; "
        f"{summary['expectations']['checked']} expectations checked, "
        f"{len(summary['expectations']['failed'])} failed; data docs in {DATA_DOCS}/overview.html"
    )
