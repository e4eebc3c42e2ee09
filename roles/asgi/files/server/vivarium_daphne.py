"""Daphne on a socket that is systemd's: its library would set the mode of the socket's file, and remove it at the end."""

import daphne.cli
import twisted.internet.unix

if __name__ == "__main__":
    # To it the socket has no file.
    twisted.internet.unix._inFilesystemNamespace = lambda path: False
    daphne.cli.CommandLineInterface.entrypoint()
