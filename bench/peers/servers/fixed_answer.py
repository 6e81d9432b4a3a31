"""A server that gives every request the same answer: what is left is the generator's own cost.

python fixed_answer.py PORT
"""

import asyncio
import sys
from typing import cast

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n" + bytes(36)


class FixedAnswer(asyncio.Protocol):
    """Reads as far as Content-Length needs; requests are all of one size."""

    def __init__(self) -> None:
        self.size = 0
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        """Answer once the request is whole."""
        if not self.size:
            head, _, _ = data.partition(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
            self.size = len(head) + 4 + int(length.split(b":")[1])
        self.received += len(data)
        if self.received >= self.size:
            self.received = 0
            self.transport.write(ANSWER)


async def main() -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(FixedAnswer, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
