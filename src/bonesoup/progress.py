"""Limit how often progress is printed."""

import time


class Throttle:
    """Allow something at most once every `seconds`."""

    def __init__(self, seconds: float = 2.0):
        self.seconds = seconds
        self.last = 0.0

    def ready(self) -> bool:
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True
