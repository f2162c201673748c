"""A listening TCP socket whose connections answer at once."""

from __future__ import annotations

import socket


def listen(host: str, port: int) -> socket.socket:
    """Port 0 takes a free one. Raises OSError when the port is taken.

    The protocol is named: asyncio turns Nagle's algorithm off for sockets that say they are TCP, and each answer would
    otherwise wait 40 ms for an acknowledgement (`asyncio.base_events._set_nodelay`).
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(100)
    except OSError:
        listener.close()
        raise
    return listener
