"""What the hot route needs of uvicorn, and what happens where it is not there or not wanted."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cellgate.serve.app import create_app
from cellgate.serve.connection import hot_surface
from cellgate.serve.connection.guarded_protocol import GuardedProtocol
from cellgate.serve.connection.hot_protocol import HotProtocol
from cellgate.serve.connection.hot_surface import http_protocol, surface_gaps
from cellgate.serve.settings import Settings


def test_what_the_hot_route_needs_of_the_installed_uvicorn_is_there():
    assert surface_gaps() == []


def test_another_uvicorn_gets_its_own_protocol_and_a_warning(served_models, make_manual_port, monkeypatch, caplog):
    app = create_app([served_models["steps"]], Settings(), make_manual_port())
    monkeypatch.setattr(hot_surface, "surface_gaps", lambda: ["cycle"])

    assert http_protocol(app, Settings()) is HttpToolsProtocol
    assert "lacks cycle: the hot route is off" in caplog.text


def test_gaps_are_named():
    class Other(asyncio.Protocol):
        def __init__(self, config, server_state, app_state, _loop):
            self.parser = object()

    class Odd(HttpToolsProtocol):
        def __init__(self):
            raise AssertionError("never called")

    found = surface_gaps(Other)

    assert {"on_url", "on_response_complete", "cycle", "transport", "parser.get_method"} <= set(found)
    assert "server_state.default_headers" in found
    assert "the constructor" in surface_gaps(Odd)[-1]


def test_hot_route_can_be_switched_off(served_models, make_manual_port):
    settings = Settings(hot_route=False)

    made = http_protocol(create_app([served_models["steps"]], settings, make_manual_port()), settings)

    assert issubclass(made, GuardedProtocol)
    assert not issubclass(made, HotProtocol)
