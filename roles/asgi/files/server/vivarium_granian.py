"""Granian on the socket that it was started with: by itself it takes none from others, though its workers share one."""

import granian.server.common
from granian.cli import entrypoint
from granian.net import SocketHolder


class Listener:
    """In the place of one that would make a socket at a path."""

    def __init__(self, path, backlog, permissions):
        self.backlog = backlog

    def build(self):
        return SocketHolder(3, True, self.backlog)


if __name__ == "__main__":
    granian.server.common.UnixSocketSpec = Listener
    entrypoint()
