"""A frontend by hand, which sees every frame."""

import socket

from cellgate.serve.processes.frames import FrameDecoder, Kind, pack_bare

PATIENCE_S = 30


class Wire:
    """A frontend by hand: a blocking connection that speaks in frames."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path)
        self.frames = []
        self._decoder = FrameDecoder(2**30)

    def send(self, *data):
        self.socket.sendall(b"".join(bytes(piece) for piece in data))

    def receive(self):
        """Return the next frame, or None at the connection's end."""
        while not self.frames:
            try:
                chunk = self.socket.recv(2**16)
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            self.frames += self._decoder.feed(chunk)
        return self.frames.pop(0)

    def ask(self, request_id=10**9):
        """Ask for statistics and return the answer's frame, which comes after everything asked before."""
        self.send(pack_bare(Kind.ASK_STATISTICS, request_id))
        return self.receive()
