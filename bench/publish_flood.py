#!/usr/bin/env python3
"""Publishes to the topic `flood` over many connections, pipelined, until it is ended: HOST:PORT TOKEN CONNECTIONS.

It reads answers without looking at them, and writes whatever the kernel takes.
"""

import selectors
import socket
import sys

BATCH = 64
READ_BYTES = 256 * 1024


def main():
    address, token, connections = sys.argv[1], sys.argv[2], int(sys.argv[3])
    host, port = address.rsplit(":", 1)
    head = "POST /publish/flood HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer %s\r\nContent-Length: 1\r\n\r\nx"
    batch = (head % token).encode() * BATCH
    poll = selectors.DefaultSelector()
    for _ in range(connections):
        connection = socket.create_connection((host, int(port)))
        connection.setblocking(False)
        poll.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, [batch])
    while poll.get_map():
        for key, events in poll.select():
            if events & selectors.EVENT_READ and not key.fileobj.recv(READ_BYTES):
                poll.unregister(key.fileobj)
            elif events & selectors.EVENT_WRITE:
                rest = key.data[0]
                rest = rest[key.fileobj.send(rest) :]
                key.data[0] = rest or batch


if __name__ == "__main__":
    main()
