"""A hub as FastAPI's and redis-py's documentation have it, written with care: one process; each channel of Redis to the
WebSockets that asked for it.

FAN_OUT says how an event reaches them. `gather`, as the system in question does it: all sends of one event are awaited
together, so the slowest client holds up the next event. `queues`: each client has a bounded queue and a task that empties it,
and who is behind by a full queue is let go.
"""

import asyncio
import contextlib
import os

import redis.asyncio
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

QUEUE_LENGTH = 1024
FAN_OUT = os.environ.get("FAN_OUT", "gather")
REDIS_URL = os.environ["REDIS_URL"]

clients = {}


@contextlib.asynccontextmanager
async def lifespan(_app):
    listener = asyncio.create_task(listen())
    yield
    listener.cancel()


app = FastAPI(lifespan=lifespan)


async def listen():
    """Whatever is published, on whatever channel: the topics are known only once somebody asks."""
    pubsub = redis.asyncio.from_url(REDIS_URL, decode_responses=True).pubsub(ignore_subscribe_messages=True)
    await pubsub.psubscribe("*")
    async for message in pubsub.listen():
        crowd = clients.get(message["channel"])
        if crowd:
            await fan_out(crowd, message["data"])


async def fan_out(crowd, text):
    if FAN_OUT == "gather":
        await asyncio.gather(*(socket.send_text(text) for socket in list(crowd)), return_exceptions=True)
        return
    for socket, queue in list(crowd.items()):
        try:
            queue.put_nowait(text)
        except asyncio.QueueFull:
            crowd.pop(socket, None)
            asyncio.create_task(socket.close(1013))


async def empty(socket, queue):
    while True:
        await socket.send_text(await queue.get())


@app.websocket("/ws/{topic}")
async def subscribe(socket: WebSocket, topic: str):
    await socket.accept()
    queue = asyncio.Queue(QUEUE_LENGTH)
    sender = asyncio.create_task(empty(socket, queue)) if FAN_OUT == "queues" else None
    clients.setdefault(topic, {})[socket] = queue
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        clients[topic].pop(socket, None)
        if sender:
            sender.cancel()
