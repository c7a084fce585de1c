"""Where the time of a call goes: the shares that the most expensive operations of torch take."""

import time
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def shares(call: Callable[[], object], count: int = 8) -> str:
    """Call once, and write the seconds it took and the operations that took most of them."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        started = time.perf_counter()
        call()
        seconds = time.perf_counter() - started
    operations = sorted(recorded.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in operations)
    listed = [f"  {event.self_cpu_time_total / total:5.1%}  {event.key}, {event.count:,} times" for event in operations]
    return "\n".join([f"{seconds:.1f} s", *listed[:count]])
