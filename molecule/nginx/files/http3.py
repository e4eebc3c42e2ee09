"""Ask over HTTP/3, which Debian's curl does not speak. Prints a line of JSON for each line of JSON on its standard input.

usage: http3.py ADDRESS PORT DOMAIN          shakes hands for this name; {"refused": …} and no more where that is refused

A question is {"path": "/"}; its headers and pseudo-headers may be said too ({":authority": "other.test"}), and the size of a
body.
"""

import asyncio
import json
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.answers, self.waiting, self.ended = {}, {}, None

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.ended = event.reason_phrase or f"error {event.error_code}"
            for future in self.waiting.values():
                if not future.done():
                    future.set_result({"refused": self.ended})
        if isinstance(event, StreamReset) and not (future := self.waiting[event.stream_id]).done():
            future.set_result({"refused": f"stream reset {event.error_code}"})
        for found in self.http.handle_event(event):
            answer = self.answers.get(getattr(found, "stream_id", None))
            if answer is None:
                continue
            if isinstance(found, HeadersReceived):
                answer["headers"] |= {name.decode(): value.decode() for name, value in found.headers}
                answer["status"] = int(answer["headers"].pop(":status", answer.get("status", 0)))
            elif isinstance(found, DataReceived):
                answer["body"] += found.data.decode("latin-1")
            future = self.waiting[found.stream_id]
            if getattr(found, "stream_ended", False) and not future.done():
                future.set_result(answer)

    async def ask(self, domain, path, size=None, **headers):
        if self.ended:
            return {"refused": self.ended}
        stream = self._quic.get_next_available_stream_id()
        self.answers[stream] = {"headers": {}, "body": ""}
        self.waiting[stream] = asyncio.get_running_loop().create_future()
        said = {":method": "GET", ":scheme": "https", ":authority": domain, ":path": path} | headers
        lines = [(name.encode(), value.encode()) for name, value in said.items() if value is not None]
        self.http.send_headers(stream, lines, end_stream=size is None)
        if size is not None:
            self.http.send_data(stream, bytes(size), end_stream=True)
        self.transmit()
        return await asyncio.wait_for(self.waiting[stream], 10)


async def main(address, port, domain):
    settings = QuicConfiguration(alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name=domain, idle_timeout=10)
    try:
        async with connect(address, int(port), configuration=settings, create_protocol=Client) as client:
            while line := await asyncio.to_thread(sys.stdin.readline):
                try:
                    answer = await client.ask(domain, **json.loads(line))
                except TimeoutError:
                    answer = {"refused": client.ended or "no answer within ten seconds"}
                print(json.dumps(answer), flush=True)
    except ConnectionError as error:
        print(json.dumps({"refused": str(error) or "the connection"}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
