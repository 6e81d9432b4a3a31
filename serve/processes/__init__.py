"""The engine in a child process, shared by all frontends, and the process that watches over them.

Rules of this folder: fixed binary frames over Unix sockets, never pickle; whatever dies, every request is answered.
"""
