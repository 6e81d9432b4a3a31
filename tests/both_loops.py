"""For tests of what a loop does with sockets: each runs on asyncio's own loop and on uvloop's.

A module that takes these names in has its tests run twice.
"""

import asyncio

import pytest
import uvloop


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True)
async def the_loop_asked_for(anyio_backend):
    """Fail where a loop that something else holds is taken instead."""
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop) == anyio_backend[1]["use_uvloop"]
