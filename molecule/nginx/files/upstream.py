"""A tiny application on a unix socket: says what it was asked, echoes WebSocket text; as little as a proxy can tell from ASGI.

usage: upstream.py NAME SOCKET

/            what arrived, as JSON        /slow?SECONDS   the same, later        /headers   security headers of its own
/die         drops the connection         /accel?PATH     asks nginx to serve another path
/big?BYTES   headers as large as that     /named?PATH     the same as /accel, and says how it is called and kept
/fail?STATUS an error of its own
"""

import asyncio
import base64
import hashlib
import json
import os
import sys

NAME, SOCKET = sys.argv[1:]
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
deaths = 0


async def serve(reader, writer):
    global deaths
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _version = head[0].split(" ")
            headers = [line.split(": ", 1) if ": " in line else [line.rstrip(":"), ""] for line in head[1:] if line]
            first = {name.lower(): value for name, value in headers}
            body = await reader.readexactly(int(first.get("content-length", 0)))
            path, _, query = target.partition("?")
            if first.get("upgrade") == "websocket":
                await websocket(reader, writer, first["sec-websocket-key"])
                return
            if path == "/die":
                deaths += 1
                return
            if path == "/slow":
                await asyncio.sleep(float(query))
            answer = {
                "upstream": NAME,
                "method": method,
                "target": target,
                "headers": headers,
                "body": len(body),
                "deaths": deaths,
            }
            extra = ""
            if path == "/headers":
                extra = (
                    "Strict-Transport-Security: max-age=60\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n"
                )
            if path in ("/accel", "/named"):
                extra = f"X-Accel-Redirect: {query}\r\n"
            if path == "/named":
                extra += 'Content-Disposition: attachment; filename="bill"\r\nCache-Control: private, max-age=5\r\n'
                extra += "X-Frame-Options: DENY\r\n"
            if path == "/big":
                extra = f"X-Big: {'b' * int(query)}\r\n"
            text = json.dumps(answer).encode()
            status = f"{query} Error" if path == "/fail" else "200 OK"
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{extra}Content-Length: {len(text)}\r\n\r\n".encode()
                + text
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def websocket(reader, writer, key):
    accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    while True:
        first, second = await reader.readexactly(2)
        length = second & 127
        mask = await reader.readexactly(4)
        text = bytes(byte ^ mask[i % 4] for i, byte in enumerate(await reader.readexactly(length)))
        if first & 15 == 8:
            return
        reply = f"{NAME}:".encode() + text
        writer.write(bytes([0x81, len(reply)]) + reply)
        await writer.drain()


async def main():
    if os.path.exists(SOCKET):
        os.unlink(SOCKET)
    server = await asyncio.start_unix_server(serve, SOCKET)
    os.chmod(SOCKET, 0o666)
    await server.serve_forever()


asyncio.run(main())
