"""What uvicorn sees of a request that the hot route answers.

Rules of this file: the attributes that uvicorn's protocol touches of its own cycles while one is in front, and no
more.
"""

import asyncio


class HotCycle:
    """Stands where uvicorn keeps the request that it is answering, so that it queues what comes behind.

    Attributes:
        response_complete: false while the hot route is at work.
        keep_alive: the connection stays open after the answer; uvicorn clears it when the server stops.
        disconnected: set by uvicorn; nobody asks.
        message_event: likewise.
    """

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.response_complete = True
        self.keep_alive = True
        self.disconnected = False
        self.message_event = asyncio.Event()
