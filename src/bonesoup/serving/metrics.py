"""What /metrics tells Prometheus, in a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The server's counters, gauges and histograms."""

    def __init__(self):
        self.registry = CollectorRegistry()

        def make(kind, name: str, text: str, labels: tuple[str, ...] = (), **more):
            return kind(f"bonesoup_{name}", text, labels, registry=self.registry, **more)

        self.requests = make(Counter, "requests", "HTTP requests answered", ("route", "status"))
        self.ended = make(Counter, "rows_ended", "rows by how they ended", ("end",))
        self.prompt_tokens = make(Counter, "prompt_tokens", "prompt tokens taken in")
        self.tokens = make(Counter, "tokens", "tokens generated")
        self.running = make(Gauge, "rows_running", "rows in the batch")
        self.waiting = make(Gauge, "rows_waiting", "rows in the queue")
        self.first = make(Histogram, "first_token_seconds", "from submission to the first token", buckets=SECONDS)
        self.between = make(Histogram, "next_token_seconds", "between two tokens of a row", buckets=SECONDS)
        self.batch = make(Histogram, "batch_rows", "rows given a token in one step", buckets=ROWS)
        self.versions = make(Counter, "versions_taken", "versions of the model taken into service", ("version",))

    def text(self) -> bytes:
        return generate_latest(self.registry)
