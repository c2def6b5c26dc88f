"""What the server counts, for Prometheus. Numbers only: nothing of what was sent."""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = r = CollectorRegistry()
        ProcessCollector(registry=r)
        self.requests = Counter("mien_requests", "Requests by route and status.", ("route", "status"), registry=r)
        self.seconds = Histogram(
            "mien_request_seconds",
            "Seconds from a request's head to the end of its answer, by route.",
            ("route",),
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=r,
        )
        self.waiting = Gauge("mien_waiting", "Requests that are worked on or wait.", registry=r)
        self.faces = Counter("mien_faces", "Faces that were read.", registry=r)
        sizes = (1, 2, 4, 8, 16, 32, 64, 128)
        self.batch = Histogram("mien_batch_faces", "Faces in one run of the network.", buckets=sizes, registry=r)
        self.streams = Gauge("mien_streams", "Open streams.", registry=r)
        self.frames = Counter("mien_stream_frames", "Frames of streams: read, dropped, bad.", ("outcome",), registry=r)

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)
