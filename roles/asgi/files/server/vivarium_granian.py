"""Granian on the socket that it was started with: by itself it takes none from others, though its workers share one."""

from __future__ import annotations

from typing import Any

import granian.server.common
from granian.cli import entrypoint
from granian.net import SocketHolder


class Listener:
    """In the place of one that would make a socket at a path."""

    def __init__(self, path: str, backlog: int, permissions: Any) -> None:
        self.backlog = backlog

    def build(self) -> SocketHolder:
        return SocketHolder(3, True, self.backlog)


if __name__ == "__main__":
    granian.server.common.UnixSocketSpec = Listener
    entrypoint()
