"""The process: load a soup, listen, follow the champion, and end without losing an answer."""

import asyncio
import gc
import shutil
import signal
import socket
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import h11
import numpy as np
import torch
import uvicorn
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from bonesoup.chat import with_template
from bonesoup.files import work_folder
from bonesoup.generation import soup_file
from bonesoup.generation.batch import Request, RunningBatch
from bonesoup.generation.soup import SoupModel
from bonesoup.generation.soup_file import SoupFile
from bonesoup.serving import source as sources
from bonesoup.serving.app import application
from bonesoup.serving.demo import unpack
from bonesoup.serving.engine import Engine, Limits
from bonesoup.serving.live import Bounds, Live
from bonesoup.serving.metrics import Metrics
from bonesoup.serving.middleware import Access, Guard
from bonesoup.serving.source import Source
from bonesoup.serving.text import plain_tokens

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Bytes of a body per token of the longest prompt.
BYTES = 64
# Seconds within which a request's headers must arrive.
HEADERS = 10.0
# Seconds between checks of the registry, and the longest pause after consecutive failures.
LOOK = 10.0
RARELY = 600.0


@dataclass(frozen=True)
class Options:
    """The options of the server.

    Attributes:
        token: token that clients must send; None for none.
        hosts: host names that requests may use, in addition to the server's.
        drain: seconds that running answers get after SIGTERM.
        origins: other sites whose pages may send requests.
        root_path: the path under which a proxy publishes it.
    """

    host: str
    port: int
    token: str | None
    hosts: tuple[str, ...]
    limits: Limits
    bounds: Bounds
    device: str
    drain: float
    origins: tuple[str, ...] = ()
    root_path: str = ""


def check(options: Options) -> None:
    """Refuse to be open to everybody who can reach this machine.

    Raises:
        ValueError: no token, and an address other than loopback.
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
    # The pipeline's tokenizers are already complete.
    with_template(policy.tokenizer)
    # The first forward pass of a process is slow, and a model that cannot be batched fails here, not in a request.
    prompt = plain_tokens(policy.tokenizer, "a") or [0]
    batch = RunningBatch(policy)
    batch.join([Request(0, prompt, np.ones(len(policy.policies)), 0, 0.0, 1.0, 2)])
    batch.step()
    metrics.versions.labels(source.version or "local").inc()
    return Live(source, Engine(policy, options.limits, metrics), options.bounds)


class Following:
    """Hold what answers now, and take a new champion of the registry into service.

    Requests that run finish on the version they began with.
    """

    def __init__(self, live: Live):
        self.live = live
        self._stop = threading.Event()

    def follow(self, champion: Callable[[], str | None], load: Callable[[], Live], say: Callable[[str], None]) -> None:
        """Watch the registry in a separate thread, and serve a new champion.

        Args:
            champion: returns the number of the version that has the alias; None if there is none.
            load: returns the champion, ready to answer.
        """
        threading.Thread(target=self._follow, args=(champion, load, say), name="follow", daemon=True).start()

    def _follow(self, champion, load, say) -> None:
        reported, pause = None, LOOK
        while not self._stop.wait(pause):
            try:
                number = champion()
                if number is not None and number != self.live.source.version:
                    self._take(load(), say)
                reported, pause = None, LOOK
            # Whatever the error, the present version keeps answering.
            except Exception as error:
                text = f"cannot take the new champion, {self.live.source.place} stays: {error}"
                if text != reported:
                    say(text)
                # A version with broken files is downloaded again at every try.
                reported, pause = text, min(2 * pause, RARELY)

    def _take(self, new: Live, say: Callable[[str], None]) -> None:
        """Switch to a new version, and wait for the end of the old one, so that no third is loaded meanwhile."""
        old, self.live = self.live, new
        old.engine.close()
        say(f"now serving {new.source.place}")
        old.engine.join()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()


def serve(
    options: Options,
    reference: str | None,
    follow: bool,
    root: Path,
    say: Callable[[str], None],
    demo: bool = False,
    adapters: SoupFile | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the running answers.

    Args:
        reference: a version of the registry (`models:/NAME@champion`), a folder, a soup file, or None for the
            project's champion or, if it has none, its run.
        say: prints a line for people.
        demo: serve the soup that ships with the package.
        adapters: serve these.

    Raises:
        ValueError: nothing to serve, adapters that do not fit their base, or an address that would be open to
            everybody.
    """
    check(options)
    # The imported modules stay alive: garbage collection need not visit them while serving or at exit.
    gc.freeze()
    if demo and (reference or follow):
        raise ValueError("--demo serves the soup that ships with the package: give neither a source nor --follow")
    # Only files from a registry need a folder in the project.
    remote = not (demo or adapters) and (reference is None or reference.startswith("models:/"))
    with work_folder(root, "serve") if remote else nullcontext() as work:
        if demo:
            source, registered = unpack(say), False
        elif adapters:
            source, registered = sources.from_adapters(adapters, f"adapters on {adapters.base.absolute()}"), False
        else:
            source, registered = _find(reference, root, work)
        if follow and (not registered or reference and not reference.endswith("@champion")):
            raise ValueError(
                f"--follow takes every new champion of the registry, and this is {reference or source.place}: "
                "name models:/bonesoup-soup@champion, or nothing if the project has a champion"
            )
        say(f"loading {source.place}")
        metrics = Metrics()
        following = Following(start(source, options, metrics))
        hosts = (
            {*LOOPBACK, options.host, *map(str.lower, options.hosts)}
            if options.host in LOOPBACK or options.hosts
            else None
        )
        largest = max(1 << 16, BYTES * options.bounds.prompt)
        access = Access(options.token, hosts, options.origins, options.root_path, largest)
        app = application(lambda: following.live, metrics, access)
        with _listening(options.host, options.port) as listener:
            for line in greeting(source, options, listener.getsockname()[1]):
                say(line)
            if follow:
                _follow(following, source.name, root, work, options, metrics, say)
            _run(app, listener, options)
            following.stop()
            following.live.engine.close()
            say("stopped")


def _find(reference: str | None, root: Path, work: Path | None) -> tuple[Source, bool]:
    """Return the source, and True if it is a version of the registry."""
    if reference and reference.endswith((".yaml", ".yml")):
        return sources.from_adapters(soup_file.read(Path(reference)), f"the soup of {reference}"), False
    if reference and not reference.startswith("models:/"):
        return sources.from_folder(Path(reference)), False
    registered = sources.from_registry(root, reference, work)
    return (registered, True) if registered else (sources.from_project(root), False)


def _follow(following, name: str, root: Path, work: Path, options: Options, metrics: Metrics, say) -> None:
    from bonesoup.registry import versions
    from bonesoup.registry.store import UNCHANGED, connect
    from bonesoup.settings import params

    experiment = params.load(root / params.PARAMS).register_.name

    def champion() -> str | None:
        version = versions.aliased(connect(root, experiment, consequence=UNCHANGED).client, name, versions.CHAMPION)
        return version and str(version.version)

    def load() -> Live:
        # In a new folder: the same version may return while its last answers are still running.
        folder = tempfile.mkdtemp(dir=work)
        try:
            source = sources.from_registry(root, f"models:/{name}@{versions.CHAMPION}", Path(folder))
        except BaseException:
            shutil.rmtree(folder)
            raise
        weakref.finalize(source, shutil.rmtree, folder, ignore_errors=True)
        return start(source, options, metrics)

    following.follow(champion, load, say)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from None
    # Connections inherit it. asyncio sets it only on sockets whose protocol is named, which create_server does not do;
    # without it the answer on a kept connection waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def greeting(source: Source, options: Options, port: int) -> Iterable[str]:
    """Write the lines that a person needs to begin."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{port}"
    token = " -H 'Authorization: Bearer ...'" if options.token else ""
    named = next(iter(source.preferences), None) or next(iter(source.presets), None)
    model = f"{source.name}@{named}" if named else source.name
    yield f"serving {source.place} as {source.name}"
    yield f"the mixing desk:  {address}/"
    yield (
        f"a first answer:   curl -s {address}/v1/chat/completions{token} -H 'Content-Type: application/json' "
        f"""-d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'"""
    )


class TimedProtocol(H11Protocol):
    """Close a connection on which the headers of a request do not arrive in time; uvicorn would wait for ever."""

    late: asyncio.TimerHandle | None = None

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.late:
            self.late.cancel()

    def _wait_for_headers(self) -> None:
        waiting = self.conn.their_state is h11.IDLE
        if waiting and not self.late:
            self.late = self.loop.call_later(HEADERS, self.transport.close)
        elif not waiting and self.late:
            self.late.cancel()
            self.late = None


class Server(uvicorn.Server):
    """A server whose end does not wait for requests that are only half there."""

    def __init__(self, config: uvicorn.Config, guard: Guard):
        super().__init__(config)
        self.guard = guard

    async def shutdown(self, sockets=None) -> None:
        """End, as uvicorn does, within the time for running answers."""
        self.guard.hurry()
        await super().shutdown(sockets)


def _run(guard: Guard, listener: socket.socket, options: Options) -> None:
    """Run until a signal; uvicorn raises it again at its end, which must not change the exit status."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    app = guard
    if options.origins:
        names = ["X-Request-Id", "Retry-After"]
        app = CORSMiddleware(guard, options.origins, allow_methods=["*"], allow_headers=["*"], expose_headers=names)
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=max(1, round(options.drain)),
    )
    Server(config, guard).run(sockets=[listener])
