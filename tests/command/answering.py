"""A server that gives every request the same answer and notes what it was asked, for commands that ask one question."""

import ssl
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread


@contextmanager
def answering(status, content=b"", certificate=None):
    """Listen; yield the URL, and what was asked: path, body and Authorization of each request.

    With a certificate, the paths of it and its key, it is over TLS.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            asked.append((self.path, body, self.headers["Authorization"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - the name that the library looks for

        def log_message(self, *words):
            pass

    asked = []
    with HTTPServer(("127.0.0.1", 0), Handler) as listener:
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*certificate)
            listener.socket = context.wrap_socket(listener.socket, server_side=True)
        thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http{'s' if certificate else ''}://127.0.0.1:{listener.server_address[1]}", asked
        finally:
            listener.shutdown()
            thread.join()
