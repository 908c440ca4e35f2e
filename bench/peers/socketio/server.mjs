// The official Socket.IO server as its documentation tunes it, doing what the hub does: each event of a Redis channel
// goes to the room of that name. One process, for one core.
//
// From the documentation's performance pages: WebSocket only, bufferutil installed, no compression of messages, the
// first request of each connection let go. Recovery of connections is off, as it is by default.

import { createServer } from "node:http";
import { parseArgs } from "node:util";

import { Redis } from "ioredis";
import { Server } from "socket.io";

const { values: options } = parseArgs({ options: { listen: { type: "string" }, redis: { type: "string" } } });

const http = createServer();
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });
const redis = new Redis(`redis://${options.redis}`);
const subscribed = new Set();

io.engine.on("connection", (socket) => {
  socket.request = null;
});

io.on("connection", (socket) => {
  socket.on("subscribe", ({ topic }) => {
    if (!subscribed.has(topic)) {
      subscribed.add(topic);
      redis.subscribe(topic);
    }
    socket.join(topic);
    socket.emit("subscribed", { topic });
  });
});

redis.on("message", (channel, payload) => {
  io.to(channel).emit("message", JSON.parse(payload));
});

const [host, port] = options.listen.split(":");
http.listen({ host, port: Number(port), backlog: 4096 });
