#!/usr/bin/env node
// Listens to a Fanfare hub and prints what comes: over Socket.IO, or with --sse or --websocket over those.
//
//     npm ci
//     node client.mjs --server http://localhost:8080 --token YOUR_TOKEN --well WELL-001 --well WELL-002
//     node client.mjs --server http://localhost:8080 --user admin --topic orders.eu --websocket
//
// With --user it signs in, with the password in the environment: FANFARE_PASSWORD.

import { parseArgs } from "node:util";
import { EventSource } from "eventsource";
import { io } from "socket.io-client";
import WebSocket from "ws";

const { values: options } = parseArgs({
    options: {
        server: { type: "string", default: "http://localhost:8080" },
        token: { type: "string" },
        user: { type: "string" },
        well: { type: "string", multiple: true, default: [] },
        topic: { type: "string", multiple: true, default: [] },
        sse: { type: "boolean", default: false },
        websocket: { type: "boolean", default: false },
        transports: { type: "string" },
        types: { type: "string", default: "telemetry_update,alert,diagnostic_update" },
        count: { type: "string" },
    },
});
const topics = [...options.well.map(well => `wells.${well}`), ...options.topic];
if (topics.length === 0) fail("name a --well or a --topic");

// ---- What is printed: one line for each thing that happens.

let left = options.count === undefined ? Infinity : Number(options.count);
// What to do when there were enough events.
let leave = () => process.exit(0);

function say(...words) {
    console.log(...words);
}

function show(kind, data) {
    say("event", kind, data);
    if (kind !== "gap" && --left === 0) leave();
}

function fail(message) {
    console.error(message);
    process.exit(1);
}

// ---- Who we are: a token that is given, or one that is got by signing in and kept fresh.

let session = { token: options.token, expiresAt: Infinity };

// How long the token need not be renewed, in milliseconds.
function renewIn() {
    return session.expiresAt - Date.now() - 30_000;
}

async function freshToken() {
    if (options.user === undefined || (session.token && 0 < renewIn())) return session.token;
    const renewed = session.token && (await post("refresh", undefined, { Authorization: `Bearer ${session.token}` }));
    session = renewed || (await signIn());
    return session.token;
}

async function signIn() {
    const login = { username: options.user, password: process.env.FANFARE_PASSWORD };
    return (await post("login", login)) ?? fail("the hub does not accept this user name and password");
}

// Undefined if it is refused.
async function post(door, body, headers = {}) {
    const response = await fetch(`${options.server}/api/v1/auth/${door}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", ...headers },
        body: JSON.stringify(body),
    });
    if (response.status === 401 || response.status === 403) return undefined;
    if (!response.ok) throw new Error(`${door}: ${response.status} ${await response.text()}`);
    const { access_token: token, expires_in: seconds } = await response.json();
    return { token, expiresAt: Date.now() + seconds * 1000 };
}

// By topic, the id of the last event: where to go on.
const since = new Map();

// ---- Socket.IO.

function listenSocketIo() {
    const socket = io(options.server, {
        // Asked anew for each connection, so that it comes back with a token that is still valid.
        auth: answer => freshToken().then(token => answer({ token })),
        ...(options.transports && { transports: options.transports.split(",") }),
    });
    leave = () => socket.disconnect();
    socket.on("connect", () => {
        say("open", socket.io.engine.transport.name);
        // If the hub could take up the old session, it knows what we listen to, and sends what we missed.
        if (socket.recovered) return say("recovered");
        for (const well of options.well) socket.emit("subscribe", { well_id: well, since: since.get(`wells.${well}`) });
        for (const topic of options.topic) socket.emit("subscribe", { topic, since: since.get(topic) });
    });
    socket.io.engine.on("upgrade", transport => say("upgraded", transport.name));
    socket.on("connect_error", error => {
        say("refused", error.message);
        comeBack(socket);
    });
    socket.on("disconnect", reason => {
        say("lost", reason);
        comeBack(socket);
    });
    const aboutItself = new Set(["connected", "subscribed", "unsubscribed", "pong", "stats", "error"]);
    socket.onAny((name, data, offset) => {
        // With `socketio.recovery` an event says last where it stands: `topic@id`, for each topic, joined by commas.
        for (const place of offset?.split(",") ?? []) since.set(...place.split("@"));
        const text = JSON.stringify(data);
        if (aboutItself.has(name)) say(name, text);
        else show(name, text);
    });
}

// The library comes back by itself from everything but what the hub did on purpose.
function comeBack(socket) {
    if (!socket.active && 0 < left) setTimeout(() => socket.connect(), backoff());
}

// ---- Server-Sent Events: EventSource comes back by itself, with the id of the last event, unless it is refused.

function listenSse(lastEventId) {
    const url = new URL("/sse", options.server);
    for (const topic of topics) url.searchParams.append("topic", topic);
    if (lastEventId) url.searchParams.set("last_event_id", lastEventId);
    const authorized = async (input, init) => {
        const token = await freshToken();
        return fetch(input, { ...init, headers: { ...init.headers, ...(token && { Authorization: `Bearer ${token}` }) } });
    };
    const source = new EventSource(url, { fetch: authorized });
    const take = event => {
        lastEventId = event.lastEventId;
        show(event.type, event.data);
    };
    source.onopen = () => say("open", "sse");
    // An EventSource gives types only to those who ask for them by name.
    for (const type of ["message", "gap", ...options.types.split(",")]) source.addEventListener(type, take);
    source.addEventListener("error", event => {
        if (event.data !== undefined) say("error", event.data);
        else if (source.readyState !== EventSource.CLOSED) say("lost", event.message ?? "the stream ended");
        else {
            say("refused", event.code ?? "", event.message ?? "");
            setTimeout(() => listenSse(lastEventId), backoff());
        }
    });
}

// ---- WebSocket, with the subprotocol fanfare.v1.

async function listenWebSocket() {
    const url = new URL("/ws", options.server.replace(/^http/, "ws"));
    await freshToken();
    const socket = new WebSocket(url, "fanfare.v1");
    let renewal;
    // Shows the token, and a fresh one in time, so that the connection does not end with the old one.
    const authenticate = () => {
        if (session.token === undefined) return;
        socket.send(JSON.stringify({ op: "auth", token: session.token }));
        if (options.user) renewal = setTimeout(() => freshToken().then(authenticate), Math.max(1000, renewIn()));
    };
    socket.on("open", () => {
        say("open", "websocket");
        authenticate();
        for (const topic of topics) {
            socket.send(JSON.stringify({ op: "subscribe", topic, since: since.get(topic), ref: topic }));
        }
    });
    socket.on("message", text => {
        const message = JSON.parse(text);
        // From these on events follow: where to go on if the connection is lost.
        if (message.op === "event" || message.op === "subscribed") since.set(message.topic, message.id);
        if (message.op === "event") show(message.type || "message", JSON.stringify(message.data));
        else if (message.op === "gap") show("gap", JSON.stringify(message));
        else say(message.op, JSON.stringify(message));
    });
    socket.on("error", error => say("refused", error.message));
    socket.on("close", (code, reason) => {
        clearTimeout(renewal);
        say("lost", code, String(reason));
        setTimeout(listenWebSocket, reconnectIn(String(reason)));
    });
}

// The hub says when to come back if it is about to restart or has too many connections.
function reconnectIn(reason) {
    try {
        return JSON.parse(reason).reconnect_in_ms ?? backoff();
    } catch {
        return backoff();
    }
}

// Not all clients in the same moment.
function backoff() {
    return 1000 + Math.random() * 1000;
}

if (options.sse) listenSse();
else if (options.websocket) listenWebSocket();
else listenSocketIo();
