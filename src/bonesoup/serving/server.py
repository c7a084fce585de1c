"""The process: load what is served, listen, follow the champion, and end without losing an answer."""

import shutil
import signal
import socket
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import uvicorn

from bonesoup.generation.batch import Request, RunningBatch
from bonesoup.generation.soup import SoupModel
from bonesoup.serving import source as sources
from bonesoup.serving.app import application
from bonesoup.serving.completions import Bounds, Live
from bonesoup.serving.engine import Engine, Limits
from bonesoup.serving.metrics import Metrics
from bonesoup.serving.source import Source
from bonesoup.serving.text import plain_tokens

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Of a body, per token that a prompt may have.
BYTES = 64
# Seconds between two looks at the registry, and the most that failures in a row make of it.
LOOK = 10.0
RARELY = 600.0


@dataclass(frozen=True)
class Options:
    """How the server is run.

    Attributes:
        token: what clients must send; None for no token.
        hosts: names under which the server may be asked, beside its own.
        drain: seconds that running answers get after SIGTERM.
    """

    host: str
    port: int
    token: str | None
    hosts: tuple[str, ...]
    limits: Limits
    bounds: Bounds
    device: str
    drain: float


def check(options: Options) -> None:
    """Refuse to be reachable from elsewhere by anybody.

    Raises:
        ValueError: no token, and an address other than this machine's own.
    """
    if options.token is None and options.host not in LOOPBACK:
        raise ValueError(
            f"{options.host} can be reached from other machines: set a token with --token-file or BONESOUP_TOKEN, or "
            "listen on 127.0.0.1"
        )


def start(source: Source, options: Options, metrics: Metrics) -> Live:
    """Load a source's model and start its engine, warm."""
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    main, *others = source.soups.values()
    policy = SoupModel.load(main, device, beside=others)
    # The first forward pass of a process is slow, and a model that cannot be batched fails here.
    prompt = plain_tokens(policy.tokenizer, "a") or [0]
    batch = RunningBatch(policy)
    batch.join([Request(0, prompt, np.ones(len(policy.policies)), 0, 0.0, 1.0, 2)])
    batch.step()
    metrics.versions.labels(source.version or "local").inc()
    return Live(source, Engine(policy, options.limits, metrics), options.bounds)


class Following:
    """What answers now; looks at the registry and takes the champion's place when it has moved.

    Requests that run finish on the version they began with.
    """

    def __init__(self, live: Live):
        self.live = live
        self._stop = threading.Event()

    def follow(self, champion: Callable[[], str | None], load: Callable[[], Live], say: Callable[[str], None]) -> None:
        """Look now and then, in a thread of its own.

        Args:
            champion: the number of the version that has the alias; None where none has.
            load: the champion, ready to answer.
        """
        threading.Thread(target=self._follow, args=(champion, load, say), name="follow", daemon=True).start()

    def _follow(self, champion, load, say) -> None:
        said, pause = None, LOOK
        while not self._stop.wait(pause):
            try:
                number = champion()
                if number is not None and number != self.live.source.version:
                    self._take(load(), say)
                said, pause = None, LOOK
            # Whatever it is, what serves must go on serving.
            except Exception as error:
                text = f"cannot take the new champion, {self.live.source.place} stays: {error}"
                if text != said:
                    say(text)
                # A version whose files are broken is downloaded again at every try.
                said, pause = text, min(2 * pause, RARELY)

    def _take(self, new: Live, say: Callable[[str], None]) -> None:
        """Put another in the place of what answers, and wait for the old one's end: no third is loaded beside both."""
        old, self.live = self.live, new
        old.engine.close()
        say(f"now serving {new.source.place}")
        old.engine.join()

    def stop(self) -> None:
        self._stop.set()


def serve(options: Options, reference: str | None, follow: bool, root: Path, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what runs.

    Args:
        reference: a version of the registry (`models:/NAME@champion`), a folder, or None for the project's champion
            and, where it has none, its own run.
        say: prints a line for people.

    Raises:
        ValueError: nothing to serve, or an address that would be open to everybody.
    """
    check(options)
    (home := root / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="serve-", dir=home) as work:
        source, registered = _find(reference, root, Path(work))
        if follow and (not registered or reference and not reference.endswith("@champion")):
            raise ValueError(
                f"--follow takes every new champion of the registry, and this is {reference or source.place}: "
                "name models:/bonesoup-soup@champion, or nothing where the project has a champion"
            )
        say(f"loading {source.place}")
        metrics = Metrics()
        following = Following(start(source, options, metrics))
        hosts = (
            {*LOOPBACK, "[::1]", options.host, *options.hosts} if options.host in LOOPBACK or options.hosts else None
        )
        largest = max(1 << 16, BYTES * options.bounds.prompt)
        app = application(lambda: following.live, metrics, options.token, hosts, largest)
        with _listening(options.host, options.port) as listener:
            for line in greeting(source, options, listener.getsockname()[1]):
                say(line)
            if follow:
                _follow(following, source.name, root, Path(work), options, metrics, say)
            _run(app, listener, options.drain)
            following.stop()
            following.live.engine.close()
            say("stopped")


def _find(reference: str | None, root: Path, work: Path) -> tuple[Source, bool]:
    """The source, and whether it is a version of the registry."""
    if reference and not reference.startswith("models:/"):
        return sources.from_folder(Path(reference)), False
    found = sources.from_registry(root, reference, work)
    return (found, True) if found else (sources.from_project(root), False)


def _follow(following, name: str, root: Path, work: Path, options: Options, metrics: Metrics, say) -> None:
    from bonesoup.registry import names
    from bonesoup.registry.store import UNCHANGED, connect
    from bonesoup.settings import params

    experiment = params.load(root / params.PARAMS).register_.name

    def champion() -> str | None:
        version = names.aliased(connect(root, experiment, consequence=UNCHANGED).client, name, names.CHAMPION)
        return version and str(version.version)

    def load() -> Live:
        # In a folder of its own: the same version may come back while its last answers still run.
        folder = tempfile.mkdtemp(dir=work)
        try:
            source = sources.from_registry(root, f"models:/{name}@{names.CHAMPION}", Path(folder))
        except BaseException:
            shutil.rmtree(folder)
            raise
        weakref.finalize(source, shutil.rmtree, folder, ignore_errors=True)
        return start(source, options, metrics)

    following.follow(champion, load, say)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from None


def greeting(source: Source, options: Options, port: int) -> Iterable[str]:
    """What a person needs to begin."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{port}"
    token = " -H 'Authorization: Bearer ...'" if options.token else ""
    named = next(iter(source.preferences), None)
    model = f"{source.name}@{named}" if named else source.name
    yield f"serving {source.place} as {source.name}"
    yield f"the mixing desk:  {address}/"
    yield (
        f"a first answer:   curl -s {address}/v1/chat/completions{token} -H 'Content-Type: application/json' "
        f"""-d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'"""
    )


def _run(app, listener: socket.socket, drain: float) -> None:
    """Until a signal; uvicorn raises it again when it is done, which is then no reason for another exit status."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=max(1, round(drain)))
    uvicorn.Server(config).run(sockets=[listener])
