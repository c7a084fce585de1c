"""Counters, gauges and histograms for Prometheus, in a separate registry."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
METHOD = ("method",)


class Metrics:
    """The server's metrics; the label `method` is that of the soup which answers."""

    def __init__(self):
        self.registry = CollectorRegistry()

        def make(kind, name: str, text: str, labels: tuple[str, ...] = (), **more):
            return kind(f"bonesoup_{name}", text, labels, registry=self.registry, **more)

        self.requests = make(Counter, "requests", "HTTP requests answered", ("route", "status"))
        self.ended = make(Counter, "rows_ended", "rows by how they ended", ("end", "method"))
        self.prompt_tokens = make(Counter, "prompt_tokens", "prompt tokens taken in", METHOD)
        self.tokens = make(Counter, "tokens", "tokens generated", METHOD)
        self.running = make(Gauge, "rows_running", "rows in the batch")
        self.waiting = make(Gauge, "rows_waiting", "rows in the queue")
        self.queued = make(Histogram, "queue_seconds", "from submission to the batch", METHOD, buckets=SECONDS)
        self.first = make(
            Histogram, "first_token_seconds", "from submission to the first token", METHOD, buckets=SECONDS
        )
        self.between = make(Histogram, "next_token_seconds", "between two tokens of a row", METHOD, buckets=SECONDS)
        self.answered = make(Histogram, "answer_seconds", "from submission to the last token", METHOD, buckets=SECONDS)
        self.batch = make(Histogram, "batch_rows", "rows given a token in one step", buckets=ROWS)
        self.serving = make(Gauge, "serving", "1 for the version that answers now", ("model", "version"))
        self.versions = make(Counter, "versions_taken", "versions of the model taken into service", ("version",))

    def text(self) -> bytes:
        """Write all metrics in Prometheus' format."""
        return generate_latest(self.registry)
