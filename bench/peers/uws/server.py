"""uWebSockets by way of socketify, as its documentation has it: a WebSocket subscribes to the topic in its path, events come in
as HTTP POST, and uWebSockets itself hands them to all subscribers of the topic. No compression, no idle timeout.

socketify's own `run` polls, so that Python's asyncio has its turns: a core is busy with nothing to do. Nothing here needs asyncio,
so uWebSockets' own loop runs instead, which sleeps until there is something."""

import sys

from socketify import App, AppListenOptions, CompressOptions, OpCode

# What a socket may be behind before messages are dropped, in bytes.
BACKPRESSURE_BYTES_MAX = 16 * 1024 * 1024

app = App()


def upgrade(res, req, socket_context):
    res.upgrade(
        req.get_header("sec-websocket-key"),
        req.get_header("sec-websocket-protocol"),
        req.get_header("sec-websocket-extensions"),
        socket_context,
        req.get_parameter(0),
    )


def opened(socket):
    socket.subscribe(socket.get_user_data())


def publish(res, req):
    topic, parts = req.get_parameter(0), []

    def receive(res, chunk, is_end):
        parts.append(bytes(chunk))
        if is_end:
            app.publish(topic, b"".join(parts), OpCode.TEXT)
            res.write_status(204).end_without_body()

    res.on_data(receive)


app.ws(
    "/ws/:topic",
    {
        "compression": CompressOptions.DISABLED,
        "max_backpressure": BACKPRESSURE_BYTES_MAX,
        "idle_timeout": 0,
        "upgrade": upgrade,
        "open": opened,
    },
)
app.post("/publish/:topic", publish)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
app.loop.uv_loop.run()
