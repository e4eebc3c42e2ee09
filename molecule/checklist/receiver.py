"""A mail server on port 2525 and a Sentry on port 9000, which keep what they get in DIRECTORY/mails and DIRECTORY/events."""

import gzip
import http.server
import socketserver
import sys
import threading
from pathlib import Path

PLACE = Path(sys.argv[1])


def keep(name, text):
    with (PLACE / name).open("ab") as file:
        file.write(text + b"\n")


class Mail(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line + b"\r\n")

    def handle(self):
        self.say(b"220 receiver")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.say(b"354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                keep("mails", b"".join(lines))
            self.say(b"221 bye" if verb == b"QUIT" else b"250 good")


class Sentry(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        keep("events", gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")


threading.Thread(target=socketserver.ThreadingTCPServer(("127.0.0.1", 2525), Mail).serve_forever, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Sentry).serve_forever()
