"""The endpoints of HTTP: inference, metadata, streams, live connections, metrics, the page at /docs, and loading."""
