"""The bench's own application (pulse/) on a host, with one server after the other."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import time
from pathlib import Path

from stage import BENCH, ROOT, SHARED, BenchError, Run, Stage, call

DOMAIN = "pulse.example.com"
HOST = "pulse"
# nginx may use its connections to the release before for ten seconds.
DRAIN = 10


class PulseStage(Stage):
    def __init__(self, name: str, work: Path, image: str, workers: int):
        super().__init__(name, work, image)
        self.workers, self.build = workers, 0
        self.code = work / "pulse"
        shutil.copytree(BENCH / "pulse", self.code, ignore=shutil.ignore_patterns("__pycache__"))
        # A work tree of its own: this project's git ignores the directory it lies in.
        call("git", "init", "--quiet", self.code)

    def settle(self, server: str) -> None:
        """Let the host be a production server whose application runs with this server."""
        first = not self.containers
        if first:
            self.fresh_host(HOST)
        application = {
            "name": "pulse",
            "framework": "none",
            "source": {"path": str(self.code)},
            "application": "pulse:app",
            "server": server,
            "workers": self.workers,
            "lifespan": "on",
            "domains": [DOMAIN],
            "health_path": "/health/",
            "drain_timeout": DRAIN,
        }
        variables = {
            "asgi_apps": [application],
            "python_environment": {"PIP_CACHE_DIR": f"{SHARED}/bench/pip"},
        }
        self.inventory(HOST, variables, "web", "app")
        self.deploy(f"to {server}", ROOT / ("site.yml" if first else "playbooks/deploy.yml"))

    def deploy(self, title: str, playbook: Path = ROOT / "playbooks" / "deploy.yml") -> Run:
        """One more build; it is live when this ends, or this fails."""
        self.build += 1
        (self.code / "build").write_text(f"{self.build}\n")
        # The controller is another machine in real life: here it gets the processor that visitors and servers leave it.
        run = self.play(HOST, playbook, title, yielding=True)
        found = self.ask()["build"]
        if found != str(self.build):
            raise BenchError(f"{title}: build {found} answers after build {self.build} went live")
        return run

    def ask(self) -> dict:
        """What a visitor's new connection finds. Through connections that nginx keeps, the release before may answer for 5 s."""
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        deadline = time.monotonic() + 6
        while True:
            connection = http.client.HTTPConnection(DOMAIN)
            plain = socket.create_connection(("127.0.0.1", self.ports[HOST]), timeout=20)
            connection.sock = tls.wrap_socket(plain, server_hostname=DOMAIN)
            connection.request("GET", "/")
            answer = json.loads(connection.getresponse().read())
            connection.close()
            if answer["build"] == str(self.build) or time.monotonic() > deadline:
                return answer
            time.sleep(0.1)
