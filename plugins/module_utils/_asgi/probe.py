# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a release is asked over HTTP: on its socket, and through nginx as a visitor does."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import ssl
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


NOBODY = 65534
# How large an answer to a question of ours may be (bytes).
WHOLE = 1024 * 1024


# How often to look around while an answer is waited for (seconds).
LOOK = 0.5


class UnixConnection(http.client.HTTPConnection):
    """To an instance's socket, which systemd holds: a request waits in it until the server takes it in, if it ever does."""

    timeout: float

    def __init__(
        self, path: str, timeout: float, group: int | None = None, meanwhile: Callable[[], None] | None = None
    ) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path, self.group, self.meanwhile = path, group, meanwhile

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with contextlib.nullcontext() if self.group is None else member_of(self.group):
            self.sock.connect(self.path)

    def getresponse(self) -> http.client.HTTPResponse:
        deadline = time.monotonic() + self.timeout
        while self.meanwhile and not select.select([self.sock], [], [], LOOK)[0]:
            self.meanwhile()
            if time.monotonic() > deadline:
                raise TimeoutError("timed out")
        return super().getresponse()


@contextlib.contextmanager
def member_of(group: int) -> Iterator[None]:
    """For a moment nobody, in one group: root may connect to a socket that is closed to the ones it is for."""
    before = os.getgroups()
    os.setgroups([])
    os.setegid(group)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


class LocalTLSConnection(http.client.HTTPConnection):
    """TLS to this host under the name of a site: whether the certificate is trusted is not the question here."""

    sock: ssl.SSLSocket

    def __init__(self, port: int, domain: str, timeout: float) -> None:
        super().__init__("127.0.0.1", port, timeout=timeout)
        self.domain = domain

    def connect(self) -> None:
        super().connect()
        # Without the system's authorities, which take a while to load.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock, server_hostname=self.domain)


def answer_of(
    connection: http.client.HTTPConnection,
    path: str,
    host: str,
    more: dict[str, str] | None = None,
    method: str = "GET",
) -> tuple[int, dict[str, str], str]:
    """One request; the status, the headers and the beginning of the body: the whole of it where ``more`` headers are sent.

    OSError and HTTPException are the caller's.

    The whole takes no longer than the timeout of the connection, which by itself counts from byte to byte.
    """
    limit, late = connection.timeout, threading.Event()
    if limit is None:
        raise ValueError("whoever asks has a limit")

    def cut(carrier: socket.socket) -> None:
        late.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(carrier, socket.SHUT_RDWR)

    try:
        connection.connect()
        # http.client lets go of it before the answer is read.
        timer = threading.Timer(limit, cut, [connection.sock])
        timer.daemon = True
        timer.start()
    except BaseException:
        connection.close()
        raise
    try:
        connection.request(
            method,
            path,
            headers={
                "Host": host,
                "X-Forwarded-Proto": "https",
                "X-Forwarded-For": "127.0.0.1",
                "User-Agent": "vivarium-probe",
                "Connection": "close",
                **(more or {}),
            },
        )
        response = connection.getresponse()
        # The rest may go on for ever.
        body = response.read(WHOLE) if more else response.read1(65536)
        if late.is_set():
            raise TimeoutError("cut off")
        headers: dict[str, str] = {}
        for name, value in response.getheaders():
            headers[name.lower()] = "\n".join(filter(None, [headers.get(name.lower()), value]))
        return response.status, headers, body.decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        if late.is_set():
            raise TimeoutError(f"no whole answer within {limit} s") from error
        raise
    finally:
        timer.cancel()
        connection.close()


def ask(connection: http.client.HTTPConnection, path: str, host: str) -> int:
    """One GET; returns the status alone."""
    return answer_of(connection, path, host)[0]


def ask_socket(
    path: str,
    url: str,
    host: str,
    timeout: float = 10,
    group: int | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> int:
    """Ask an instance on its socket; with a group as a member of it, such as nginx is, and with no other right.

    While it does not answer, ``meanwhile`` is called again and again; what that raises ends the question.
    """
    return ask(UnixConnection(path, timeout, group, meanwhile), url, host)


def ask_site(port: int, domain: str, url: str, timeout: float = 10) -> int:
    host = domain if port == 443 else f"{domain}:{port}"
    return ask(LocalTLSConnection(port, domain, timeout), url, host)


def healthy(status: int, strict: bool) -> bool:
    """A path of the user's own must answer 2xx or 3xx; for the default one any answer but a server error will do."""
    return 200 <= status < (400 if strict else 500)
