"""uWebSockets by way of socketify, as its documentation has it: a WebSocket subscribes to the topic in its path, events come in
as HTTP POST, and uWebSockets itself hands them to all subscribers of the topic. No compression, no idle timeout."""

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


async def publish(res, req):
    topic = req.get_parameter(0)
    text = await res.get_text()
    app.publish(topic, text, OpCode.TEXT)
    res.write_status(204).end_without_body()


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
app.run()
