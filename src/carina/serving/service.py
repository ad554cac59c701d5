"""The service: listener, worker, housekeeping, delivery and page in one process, or some of them.

Composes; everything shared goes through the database and the archive, so that any number of these processes
may run, and one that is killed at any moment loses nothing. A part that fails is started again; the others go
on. Safe by default: nothing but this machine is listened to, unless the site has said who may come.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from carina.errors import ServiceError
from carina.serving import folder, health, jobs, memory, people, upgrades
from carina.serving.archive import Archive
from carina.serving.database import Database
from carina.serving.duty import Duty
from carina.serving.housekeeping import Housekeeping
from carina.serving.intake import Intake
from carina.serving.results.delivery import Delivery
from carina.serving.results.plan import enqueue
from carina.serving.settings import Role, Settings, is_loopback
from carina.serving.tls import server_context
from carina.serving.worker import Worker

if TYPE_CHECKING:
    import uvicorn

    from carina.serving.listener import Listener

_PULSE = 5.0  # seconds between two words on the archive
_AGAIN = 1.0  # seconds before a part that failed is started again
_ENDS = 30.0  # seconds that parts may take to end
_DESCRIPTORS = 65536  # files and sockets at once, where the system lets us

_log = logging.getLogger(__name__)


class Service:
    """One process of a site. ``start`` returns when films can be sent and the page can be opened.

    ``duty`` is the model on duty where it is being loaded already (``carina.serving.start``).

    Raises :class:`~carina.errors.ServiceError` where it would be open to anybody, or a port is taken, and
    what the database and the archive raise.
    """

    def __init__(self, settings: Settings, role: Role = Role.ALL, duty: Duty | None = None) -> None:
        self.settings, self.role = settings, role
        self.duty = duty or (Duty(settings) if self._does(Role.WORKER) else None)
        self.dicom_port = self.web_port = 0
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener: Listener | None = None
        self._server: uvicorn.Server | None = None
        self._page: socket.socket | None = None  # what the page listens on
        self.database: Database | None = None

    def start(self) -> None:
        """Open what this process needs, start its parts, and come back."""
        folder.take(self.settings)
        _take_descriptors()
        memory.keep_few_heaps()
        self.database = database = Database(self.settings.database_url)
        try:
            upgrades.upgrade(database)
            check_exposure(self.settings, database, self.role)
            archive = Archive(self.settings.archive, self.settings)
            with database.write() as session:
                jobs.orphaned(session, datetime.now(UTC))
                health.without_the_dead(session)
            self._start_parts(database, archive)
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Until somebody asks this process to stop."""
        while not self._stop.wait(3600):
            pass

    def ask_to_stop(self) -> None:
        """Let :meth:`wait` end; may be called from a signal handler."""
        self._stop.set()

    def stop(self) -> None:
        """End all parts: requests and films in work are finished, the others stay where they are kept."""
        self._stop.set()
        if self._listener is not None:
            self._listener.stop()
        if self._server is not None:
            self._server.should_exit = True
        end = time.monotonic() + _ENDS
        for thread in self._threads:
            thread.join(max(0.1, end - time.monotonic()))
        if self._page is not None:  # uvicorn closes it, but for a server that was stopped while it started
            self._page.close()
        if self.duty is not None:
            self.duty.close()
        if self.database is not None:
            with suppress(SQLAlchemyError), self.database.write() as session:  # it may be why this ends
                health.leave(session, f"{socket.gethostname()}:{os.getpid()}")
            self.database.close()
        _log.info("stopped")

    def _does(self, role: Role) -> bool:
        return self.role in (Role.ALL, role)

    def _start_parts(self, database: Database, archive: Archive) -> None:
        self._begin("memory", memory.keep_small)
        if self._does(Role.LISTENER):
            from carina.serving.listener import Listener

            self._listener = Listener(self.settings, database, archive)  # refuses before anything is open
        if self._does(Role.WEB):
            self._start_web(database, archive)
        if self._listener is not None:
            self._listener.start()
            self.dicom_port = self._listener.port
            self._begin("intake", lambda _: self._adopt(database, archive), once=True)
        if self._does(Role.LISTENER) or self._does(Role.WEB):
            self._begin("store", lambda stop: self._pulse(database, archive, stop))
        if self.duty is not None:
            worker = Worker(self.settings, database, archive, self.duty, _enqueue)
            self._begin("worker", lambda stop: self._work(worker, stop))
            self._begin("housekeeping", Housekeeping(self.settings, database, archive, _enqueue).run)
            if self.settings.destinations:
                self._begin("delivery", Delivery(self.settings, database, archive).run)

    def _begin(self, name: str, run: Callable[[threading.Event], object], *, once: bool = False) -> None:
        """A thread for one part, started again when it fails."""

        def kept_running() -> None:
            while not self._stop.is_set():
                try:
                    run(self._stop)
                except Exception:
                    _log.exception("%s failed", name)
                    self._stop.wait(_AGAIN)
                    continue
                if once:
                    return

        thread = threading.Thread(target=kept_running, name=f"carina-{name}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self, worker: Worker, stop: threading.Event) -> None:
        assert self.duty is not None
        self.duty.begun()
        worker.run(stop)

    def _adopt(self, database: Database, archive: Archive) -> None:
        """Films that a crash left stored and not entered."""
        found = Intake(database, archive, self.settings).adopt()
        if found:
            _log.warning("films that a crash had left were entered", extra={"films": found})

    def _pulse(self, database: Database, archive: Archive, stop: threading.Event) -> None:
        """Say how the archive is, now and then."""
        part = f"store {socket.gethostname()}:{os.getpid()}"
        while not stop.is_set():
            archive.probe()
            well, says = (False, database.fault) if database.fault else archive.condition()
            try:
                with database.write() as session:
                    health.say(session, part, well, says, datetime.now(UTC))
            except SQLAlchemyError as fault:
                _log.error("the database does not answer", extra={"fault": type(fault).__name__})
            stop.wait(_PULSE)

    def _start_web(self, database: Database, archive: Archive) -> None:
        import uvicorn

        from carina.serving.web.app import create_app
        from carina.serving.web.doorway import Connection

        web = self.settings.web
        self._page = listening = _listening(web.host, web.port)
        self.web_port = listening.getsockname()[1]
        duty = self.duty
        app = create_app(self.settings, database, archive, None if duty is None else lambda: duty.status)
        options: dict[str, Any] = {}
        if web.tls is not None:
            options = {"ssl_certfile": str(web.tls.certificate), "ssl_keyfile": str(web.tls.key)}
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, proxy_headers=False,
            timeout_keep_alive=20, timeout_graceful_shutdown=3, limit_concurrency=500, http=Connection,
            loop="carina.serving.web.doorway:Loop", ws="none", **options,
        )  # fmt: skip
        try:
            config.load()
            if web.tls is not None:
                config.ssl = server_context(web.tls)
        except (OSError, ValueError) as fault:  # ssl.SSLError is an OSError
            what = web.tls.certificate if web.tls else web.host
            raise ServiceError(
                f"{what}: the page cannot be served ({fault}); give PEM files of a certificate and its key"
            ) from fault
        self._server = server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), name="carina-web", daemon=True)
        thread.start()
        self._threads.append(thread)
        until = time.monotonic() + _ENDS
        while not server.started and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        if not server.started:
            raise ServiceError(f"{web.host}:{self.web_port}: the page did not start; see the log")


def check_exposure(settings: Settings, database: Database, role: Role) -> None:
    """Refuse to be reached from other machines by whoever likes.

    Raises :class:`~carina.errors.ServiceError`. The DICOM listener asks the same of its own settings.
    """
    web = settings.web
    if role in (Role.ALL, Role.WEB) and not is_loopback(web.host):
        if web.tls is None:
            raise ServiceError(
                f"web.host {web.host}: reached from other machines without TLS; set web.tls (certificate, "
                "key), or keep to 127.0.0.1 and let a proxy with TLS stand before it"
            )
        if not web.sign_in:
            raise ServiceError(
                f"web.host {web.host}: reached from other machines, and nobody would have to sign in; set "
                "web.sign_in = true, or keep to 127.0.0.1"
            )
        with database.read() as session:
            if not people.users(session):
                raise ServiceError(
                    f"web.host {web.host}: reached from other machines, and nobody has a password yet; run "
                    f"first: carina user add NAME --role admin --data {settings.data}"
                )


def _take_descriptors() -> None:
    """As many files and sockets at once as this account may have: many systems begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def nobody_signs_in(service: Service) -> bool:
    """Whether nobody may sign in yet: a new site."""
    assert service.database is not None
    with service.database.read() as session:
        return not people.users(session)


def _enqueue(session: Any, study: Any, settings: Settings, now: datetime) -> None:
    enqueue(session, study, settings, now)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as fault:
        raise ServiceError(
            f"{host}:{port}: the page's port cannot be opened ({fault.strerror}); end the program that "
            "holds it, or name another with --port"
        ) from fault
