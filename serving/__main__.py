"""``python -m serving``: start the endpoint, and the commands that work on its log, state and keys."""

import contextlib
import io
import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from roomrec.errors import RoomRecError, StateError
from serving.metrics_folder import MetricsFolder
from serving.settings import Settings

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "OMP_NUM_THREADS": "1",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
}
"""Set before Ray is imported, unless the caller has set them: replicas at normal priority, one thread each, devices
left visible to replicas that reserve none, and the load told every 2 s instead of every 10 s."""

_STOPPED_BY_SIGNAL = 130
_LOOK_AT_RAY_EVERY_S = 1.0
_KEEP_RAY_RUNNING = frozenset({"gcs_server", "raylet"})

application = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    help="Serve live recommendations. Every option may also be set in the environment, as ROOMREC_<NAME>.",
)
_console = Console(highlight=False, soft_wrap=True)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)

Registry = Annotated[str | None, typer.Option(help="Folder of the bundle registry (default data/registry)")]
Data = Annotated[str | None, typer.Option(help="Folder of event log and state (default data/serving)")]


@application.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    registry: Registry = None,
    data: Data = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1)")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default 8000)")] = None,
    replicas: Annotated[int | None, typer.Option(help="Processes that answer (default 1)")] = None,
    max_replicas: Annotated[
        int | None, typer.Option(help="Start more, up to so many, while there is much to do (default: no more)")
    ] = None,
    allow_no_model: Annotated[
        bool, typer.Option("--allow-no-model", help="Start without a champion and show what is popular.")
    ] = False,
) -> None:
    """Start the endpoint and keep it running until Ctrl-C."""
    if context.invoked_subcommand is not None:
        return
    try:
        settings = Settings.read(
            {
                "registry": _absolute(registry),
                "data": _absolute(data),
                "host": host,
                "port": port,
                "replicas": replicas,
                "max_replicas": max_replicas,
                "allow_no_model": allow_no_model or None,
            }
        )
        settings = msgspec.structs.replace(
            settings,
            registry=os.path.abspath(settings.registry),
            data=os.path.abspath(settings.data),
            slates=settings.slates and os.path.abspath(settings.slates),
            access=settings.access and os.path.abspath(settings.access),
            pseudonym_key_file=settings.pseudonym_key_file and os.path.abspath(settings.pseudonym_key_file),
        )
        _refuse_taken_port(settings.host, settings.port)
        _prepare(settings)
    except (RoomRecError, OSError) as error:
        _errors.print(f"cannot start: {error}", markup=False)
        raise typer.Exit(1) from None
    raise typer.Exit(_serve(settings))


@application.command("rebuild-state")
def rebuild_state(
    data: Data = None,
    archive: Annotated[str | None, typer.Option(help="Folder that trim-log moved events to.")] = None,
) -> None:
    """Drop the state and make it again from the event log; a running endpoint follows."""
    from serving.privacy.exports import Exports
    from serving.state.opening import open_log_with_archive, open_store_to_rebuild, open_written_log

    started = time.perf_counter()
    try:
        settings = Settings.read({"data": _absolute(data)})
        with Exports(Path(settings.data)).lock() if archive is not None else contextlib.nullcontext():
            log = open_written_log(settings) if archive is None else open_log_with_archive(settings, Path(archive))
            store = open_store_to_rebuild(settings, log)
            position = store.rebuild()
            store.close()
            log.close()
    except RoomRecError as error:
        _errors.print(f"cannot rebuild: {error}", markup=False)
        raise typer.Exit(1) from None
    seconds = time.perf_counter() - started
    _console.print(f"state rebuilt up to event {position.applied_seq} in {seconds:.1f} s", markup=False)


@application.command("export-events")
def export_events(
    to: Annotated[str, typer.Argument(help="New folder, for example data/events/live.")], data: Data = None
) -> None:
    """Write the event log as Parquet by day, for `python -m training.preprocess source=native source.path=...`."""
    from serving.privacy.exports import Exports
    from serving.state.export import export_events
    from serving.state.opening import open_written_log

    try:
        settings = Settings.read({"data": _absolute(data)})
        log = open_written_log(settings)
        written = export_events(log, Path(to), exports=Exports(Path(settings.data)))
        log.close()
    except (RoomRecError, OSError) as error:
        _errors.print(f"cannot export: {error}", markup=False)
        raise typer.Exit(1) from None
    _console.print(f"{written} events written to {to}", markup=False)


@application.command("export-slates")
def export_slates(
    to: Annotated[str, typer.Argument(help="New folder, for example data/slates/live.")], data: Data = None
) -> None:
    """Write what was shown as Parquet by day, to be joined with events by `request_id`."""
    from serving.privacy.exports import Exports
    from serving.state.slate_export import export_slates

    try:
        settings = Settings.read({"data": _absolute(data)})
        if not settings.slates_path.is_dir():
            raise StateError(f"there are no slates {settings.slates_path}")
        written = export_slates(settings.slates_path, Path(to), exports=Exports(Path(settings.data)))
    except (RoomRecError, OSError) as error:
        _errors.print(f"cannot export: {error}", markup=False)
        raise typer.Exit(1) from None
    _console.print(f"{written} slates written to {to}", markup=False)


@application.command("trim-log")
def trim_log(
    to: Annotated[str, typer.Argument(help="Folder for all trims, for example data/events/archive.")],
    data: Data = None,
) -> None:
    """Move the oldest events from a Redis log into Parquet; the newest ROOMREC_REDIS_EVENTS_KEPT stay."""
    from serving.privacy.exports import Exports
    from serving.state.opening import open_written_log
    from serving.state.redis_event_log import RedisEventLog
    from serving.state.redis_trimming import trim_log

    try:
        settings = Settings.read({"data": _absolute(data)})
        log = open_written_log(settings)
        if not isinstance(log, RedisEventLog):
            raise StateError("event_log=sqlite keeps every event; only event_log=redis can be trimmed")
        trimmed = trim_log(log, Path(to), keep=settings.redis_events_kept, exports=Exports(Path(settings.data)))
        log.close()
    except (RoomRecError, OSError) as error:
        _errors.print(f"cannot trim: {error}", markup=False)
        raise typer.Exit(1) from None
    _console.print(f"{trimmed.events} events moved to {to}, all up to event {trimmed.seq}", markup=False)
    if trimmed.held_by is not None:
        _console.print(f"consumer group {trimmed.held_by} is not done with the next one", markup=False)


@application.command("make-key")
def make_key(
    role: Annotated[str, typer.Option(help="frontend, operator or auditor")],
    name: Annotated[str, typer.Option(help="Whose key it is to be.")],
) -> None:
    """Draw a key and print it, this once, with the lines for the access file."""
    from serving.access.make_key import make_key
    from serving.access.roles import ROLES

    if role not in ROLES:
        _errors.print(f"cannot make a key: --role is {role}, choose of {', '.join(ROLES)}", markup=False)
        raise typer.Exit(1)
    try:
        new = make_key(name, role)
    except ValueError as error:
        _errors.print(f"cannot make a key: {error}", markup=False)
        raise typer.Exit(1) from None
    # apart, so that `make-key ... >> access.toml` puts the lines into the file and the key on the screen
    _errors.print(f"the key, shown this once: {new.key}", markup=False)
    _console.print(new.lines, markup=False)


def _prepare(settings: Settings) -> None:
    """Try everything once before replicas do: what is wrong is said in a sentence, and the state is caught up."""
    from roomrec.bundle import Registry
    from serving.access.guard import Guard
    from serving.deployments.loading import ModelLoader, in_use_at_start
    from serving.privacy.pseudonyms import Pseudonyms
    from serving.state.opening import open_state

    Guard.open(settings)
    opened = open_state(settings)
    try:
        Pseudonyms.open(settings, opened.log)
        opened.store.catch_up()
    finally:
        opened.close()
    registry = Registry(settings.registry_path)
    champion = in_use_at_start(registry, allow_no_model=settings.allow_no_model).champion
    if champion is not None:
        loader = ModelLoader(registry, history_limit=settings.history_limit, cache_bytes=settings.encoder_cache_bytes)
        loader.open(champion, gently=False)


def _serve(settings: Settings) -> int:
    started = time.perf_counter()
    # not in the data folder: a second endpoint may work on the same data
    try:
        metrics = MetricsFolder()
    except OSError as error:
        _errors.print(f"cannot start: no folder for metrics can be made: {error}", markup=False)
        return 1
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics.path)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    stop = threading.Event()
    gone: str | None = None
    _on_signals(lambda *_: stop.set())

    import ray
    from ray import serve

    from serving.app import APPLICATION, build_app

    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        # a cluster that happens to run on this machine is not ours to change, unless the environment names it
        address = os.environ.get("RAY_ADDRESS", "local")
        ray.init(
            address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, namespace=APPLICATION
        )
        _on_signals(lambda *_: stop.set())  # once more: Ray has put a handler of its own on SIGTERM
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(
            proxy_location="Disabled",  # replicas listen themselves
            logging_config={"log_level": "ERROR", "enable_access_log": False},
        )
        serve.run(build_app(msgspec.to_builtins(settings)), name=APPLICATION, route_prefix=None)
        _on_signals(lambda *_: stop.set())  # and Serve another
        _console.print(
            f"ready: http://{settings.host}:{settings.port} (docs at /docs), {settings.replicas} replica(s), "
            f"started in {time.perf_counter() - started:.1f} s",
            markup=False,
        )
        _console.print(settings.size_formula(), markup=False)
        while not stop.wait(_LOOK_AT_RAY_EVERY_S):
            if (gone := _gone_of_ray()) is not None:
                _errors.print(f"Ray's {gone} has ended, so nobody replaces replicas: start the endpoint again")
                return 1
        _console.print("stopping", markup=False)
    except Exception as error:
        if stop.is_set():
            return _STOPPED_BY_SIGNAL
        _errors.print(f"cannot start: {error}", markup=False)
        return 1
    finally:
        _shut_down(asks_serve=gone is None)
        if gone is not None:
            _kill_orphans(metrics.path)
        metrics.close()
    return 0


def _gone_of_ray() -> str | None:
    """Return which of the processes that keep Ray running has ended; those of a cluster we only joined are not ours."""
    from ray._private import worker

    node = worker._global_node
    dead = set() if node is None else {kind for kind, _ in node.dead_processes()}
    return next(iter(sorted(dead & _KEEP_RAY_RUNNING)), None)


def _kill_orphans(metrics: Path) -> None:
    """Kill replicas that Ray cannot end any more, so that the port is free; they are ours by their environment."""
    ours = f"PROMETHEUS_MULTIPROC_DIR={metrics}\0".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(folder.name) != os.getpid() and ours in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)


def _shut_down(*, asks_serve: bool) -> None:
    import ray
    from ray import serve

    _on_signals(signal.SIG_IGN)
    # Ray says on stderr that its controller, which is being killed, has been killed
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        if asks_serve and ray.is_initialized():  # else Serve would start another Ray to stop there
            serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _refuse_taken_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"{host}:{port} cannot be listened on ({error.strerror}); choose another with --port"
            ) from None


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)


if __name__ == "__main__":
    application()
