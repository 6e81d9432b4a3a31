"""How the hot route answers: the bytes of a reply, what is noted of it, what a connection does until the next request.

Rules of this file: nothing is read or decided about requests here. Whoever was told that too much waits is not read
from for a moment (`pausing_protocol`).
"""

from time import perf_counter
from typing import Any

from starlette.responses import Response

from ..error_answer import answer_error, answer_fault
from ..errors import ServeError
from ..observe.access_log import log_request
from ..observe.request_meter import RequestMeter
from .connection_end import IDLE
from .hot_cycle import HotCycle
from .pausing_protocol import PausingProtocol
from .raw_response import STATUS_LINES, header_lines
from .socket_queues import has_unread, is_encrypted

Rendered = tuple[int, bytes, bytes, list[Any], int]  # status, its line, header lines, body, bytes of it


def rendered(response: Response) -> Rendered:
    """Return a response in the form that `HotReplies` sends."""
    status, body = response.status_code, bytes(response.body)
    return status, STATUS_LINES[status], header_lines(response.raw_headers), [body], len(body)


class HotReplies(PausingProtocol):
    """The answering half of a connection; `HotProtocol` is the other one."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._hot = HotCycle()
        self._path = b""
        self._id = b""
        self._meter: RequestMeter | None = None  # of the request
        self._start = 0.0
        self._read_s = 0.0
        self._idle_since_s = 0.0
        self._paused_s = 0.0
        self._unread_s = 0.0  # the longest that the next request can have waited in the kernel
        self._seen_headers: Any = None
        self._default_lines = b""

    def _reply_error(self, err: Exception) -> None:
        word = self._id.decode("ascii")
        response = answer_error(err, word) if isinstance(err, ServeError) else answer_fault(err, word)
        self._reply(*rendered(response), perf_counter(), 0.0)

    def _reply(
        self,
        status: int,
        status_line: bytes,
        lines: bytes,
        parts: list[Any],
        size_bytes: int,
        end: float,
        render_s: float,
    ) -> None:
        self._hot.response_complete = True
        self._write(status_line, lines, parts)
        self._note(status, size_bytes, end, render_s)
        self._idle_since_s = end
        if self.timeout_keep_alive_task is None or self.pipeline or self.flow.read_paused or self._owed is not None:
            # uvicorn's: counts, goes on with what is queued, or starts the timer; says what is owed
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, if it was idle all the time: the timer is not started again for every request."""
        self.timeout_keep_alive_task = None
        if self._reading != IDLE or self._is_busy():
            return  # the answer starts it again
        left_s = self._idle_since_s + self.timeout_keep_alive - perf_counter()
        if left_s > 0 and not self.flow.read_paused:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _write(self, status_line: bytes, lines: bytes, parts: list[Any]) -> None:
        if self.server_state.default_headers is not self._seen_headers:  # uvicorn makes new ones every second
            self._seen_headers = self.server_state.default_headers
            self._default_lines = header_lines(self._seen_headers)
        if not self.transport.is_closing():
            end = b"\r\n\r\n" if self._hot.keep_alive else b"\r\nconnection: close\r\n\r\n"
            self.transport.write(
                b"".join([status_line, self._default_lines, lines, b"x-request-id: ", self._id, end, *parts])
            )
            if not self._hot.keep_alive:
                self.transport.close()

    def _note(self, status: int, size_bytes: int, end: float, render_s: float) -> None:
        assert self._meter is not None
        seconds = end - self._start
        self._meter.answered(status, seconds, self._read_s, render_s)
        if self.settings.access_log:
            path = self._path.decode("ascii")
            log_request(
                protocol="http",
                method="POST",
                path=path,
                model=self.serving.infer_paths.get(path, ""),
                status=status,
                answer_bytes=size_bytes,
                duration_s=seconds,
                request_id=self._id.decode("ascii"),
            )

    def pause_refused(self) -> None:
        """As the class says."""
        self._paused_s = perf_counter()
        super().pause_refused()

    def resume_refused(self) -> None:
        """Read on; what has waited unread counts as sent when the pause began."""
        if self.transport.is_closing():
            return
        self._idle_since_s = now = perf_counter()
        is_tls = is_encrypted(self.transport)
        self._unread_s = now - self._paused_s if is_tls or has_unread(self.transport) else 0.0
        super().resume_refused()
        if is_tls:  # what the loop holds is handed over in its next turn, before this
            self.loop.call_soon(self._forget_unread)

    def _forget_unread(self) -> None:
        if self._reading == IDLE:
            self._unread_s = 0.0
