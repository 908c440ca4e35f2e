#!/usr/bin/env python3
"""Listens to a Fanfare hub and prints what comes: over Socket.IO, or with --sse over Server-Sent Events.

    pip install -r requirements.txt
    python client.py --server http://localhost:8080 --token YOUR_TOKEN --well WELL-001 --well WELL-002
    python client.py --server http://localhost:8080 --user admin --topic orders.eu --sse

With --user it signs in; the password comes from the environment (FANFARE_PASSWORD) or is asked for.
"""

import argparse
import getpass
import json
import os
import random
import sys
import threading
import time

import requests
import socketio
import sseclient

# What the hub sends about the connection itself; everything else is an event of a topic.
ABOUT_ITSELF = {"connected", "subscribed", "unsubscribed", "pong", "stats", "error"}


class Session:
    """Who we are: a token that is given, or one that is got by signing in and kept fresh."""

    def __init__(self, server, token, user):
        self.server = server.rstrip("/")
        self.fixed_token = token
        self.user = user
        self.password = None
        self.token = None
        self.expires_at = 0.0
        if user is not None:
            self.password = os.environ.get("FANFARE_PASSWORD") or getpass.getpass(f"Password of {user}: ")

    def fresh_token(self):
        """A token that is valid for a while yet; None if the hub is asked anonymously."""
        if self.user is None:
            return self.fixed_token
        if self.token is None or time.monotonic() > self.expires_at - 30:
            self.renew()
        return self.token

    def renew(self):
        """Exchanges the token for a fresh one while it is valid, or signs in."""
        answer = None
        if self.token is not None:
            headers = {"Authorization": f"Bearer {self.token}"}
            answer = requests.post(f"{self.server}/api/v1/auth/refresh", headers=headers, timeout=10)
        if answer is None or answer.status_code in (401, 403):
            login = {"username": self.user, "password": self.password}
            answer = requests.post(f"{self.server}/api/v1/auth/login", json=login, timeout=10)
        if answer.status_code == 401:
            sys.exit("the hub does not accept this user name and password")
        answer.raise_for_status()
        self.token = answer.json()["access_token"]
        self.expires_at = time.monotonic() + answer.json()["expires_in"]


class Printer:
    """Prints one line for each thing that happens, and says when there were enough events."""

    def __init__(self, count):
        self.left = count
        # The Socket.IO library handles each message in a thread of its own.
        self.lock = threading.Lock()

    def say(self, *words):
        with self.lock:
            print(*words, flush=True)

    def event(self, kind, data):
        self.say("event", kind, data)
        with self.lock:
            if self.left is not None and kind != "gap":
                self.left -= 1

    def wants_more(self):
        return self.left is None or self.left > 0


def listen_socketio(session, options, printer):
    client = socketio.Client()

    @client.event
    def connect():
        printer.say("open", client.transport())
        for well in options.well:
            client.emit("subscribe", {"well_id": well})
        for topic in options.topic:
            client.emit("subscribe", {"topic": topic})

    @client.event
    def connect_error(reason):
        printer.say("refused", json.dumps(reason))

    @client.event
    def disconnect(reason):
        printer.say("lost", reason)

    @client.on("*")
    def any_event(name, data=None, *_more):
        if name in ABOUT_ITSELF:
            return printer.say(name, json.dumps(data))
        printer.event(name, json.dumps(data))
        if not printer.wants_more():
            client.disconnect()

    # Asked anew for each connection, so that it comes back with a token that is still valid.
    def auth():
        token = session.fresh_token()
        return {"token": token} if token else {}

    # The library comes back by itself from everything but what the hub did on purpose.
    while printer.wants_more():
        client.connect(session.server, auth=auth, transports=options.transports, wait_timeout=10, retry=True)
        client.wait()


class SseListener:
    """Goes on where it was, with the id of the last event, whenever the stream ends."""

    def __init__(self, session, options, printer):
        self.session = session
        self.topics = [f"wells.{well}" for well in options.well] + options.topic
        self.printer = printer
        self.last_event_id = None
        self.retry_s = 2.0

    def run(self):
        while True:
            try:
                with self.open() as response:
                    self.take(response)
            except requests.RequestException as problem:
                self.printer.say("lost", type(problem).__name__)
            if not self.printer.wants_more():
                return
            # Not all clients in the same moment.
            time.sleep(self.retry_s * random.uniform(1.0, 1.5))

    def open(self):
        headers = {"Accept": "text/event-stream"}
        if token := self.session.fresh_token():
            headers["Authorization"] = f"Bearer {token}"
        if self.last_event_id is not None:
            headers["Last-Event-ID"] = self.last_event_id
        url, query = f"{self.session.server}/sse", [("topic", topic) for topic in self.topics]
        # The hub is never silent for longer than half a minute.
        return requests.get(url, params=query, headers=headers, stream=True, timeout=(5, 75))

    def take(self, response):
        if response.status_code != 200:
            self.printer.say("refused", response.status_code, response.text.strip())
            may_change = [429, 500, 502, 503, 504] + ([401] if self.session.user is not None else [])
            if response.status_code not in may_change:
                sys.exit(1)
            return
        self.printer.say("open", "sse")
        for event in sseclient.SSEClient(response).events():
            self.last_event_id = event.id or self.last_event_id
            self.retry_s = int(event.retry) / 1000 if event.retry else self.retry_s
            if event.event == "error":
                self.printer.say("error", event.data)
                continue
            self.printer.event(event.event, event.data)
            if not self.printer.wants_more():
                return
        self.printer.say("lost", "the stream ended")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://localhost:8080", help="the hub, or the proxy before it")
    parser.add_argument("--token", help="a token, if you have one")
    parser.add_argument("--user", help="sign in as this user")
    parser.add_argument("--well", action="append", default=[], help="a well to listen to; may be repeated")
    parser.add_argument("--topic", action="append", default=[], help="any other topic; may be repeated")
    parser.add_argument("--sse", action="store_true", help="Server-Sent Events in place of Socket.IO")
    parser.add_argument("--transports", type=lambda text: text.split(","), help="of Socket.IO: polling,websocket")
    parser.add_argument("--count", type=int, help="leave after so many events")
    options = parser.parse_args()
    if not options.well and not options.topic:
        parser.error("name a --well or a --topic")
    session, printer = Session(options.server, options.token, options.user), Printer(options.count)
    try:
        if options.sse:
            SseListener(session, options, printer).run()
        else:
            listen_socketio(session, options, printer)
    except KeyboardInterrupt:
        pass
    except socketio.exceptions.ConnectionError as problem:
        sys.exit(f"no connection: {problem}")


if __name__ == "__main__":
    main()
