// What the three pages have in common: the form, signing in, and the list of what happens. Nothing to build or install.
"use strict";

// Entries that the list keeps; older ones are removed.
const ENTRIES_MAX = 200;

// Who we are at which hub. The token is renewed while it is valid, so that the password is sent once.
class Session {
    constructor({ hub, names, username, password }) {
        this.hub = hub.value.replace(/\/+$/, "");
        this.names = names.value.split(/[\s,]+/).filter(name => name !== "");
        this.login = { username: username.value, password: password.value };
        this.token = undefined;
        this.expiresAt = 0;
    }

    // A token that is valid for a while yet; undefined for a hub that asks for none.
    async freshToken() {
        if (this.login.username === "") return undefined;
        if (0 < this.renewIn()) return this.token;
        const renewed = this.expired() ? undefined : await this.post("refresh", undefined);
        const granted = renewed ?? (await this.post("login", this.login));
        if (granted === undefined) throw new Error("The hub does not accept this user name and password.");
        this.token = granted.access_token;
        this.expiresAt = Date.now() + granted.expires_in * 1000;
        return this.token;
    }

    // How long the token need not be renewed, in milliseconds: until half a minute before its end, or soon.
    renewIn() {
        return this.expiresAt - Date.now() - 30_000;
    }

    // Whether there is a token, or was one, that is good no more.
    expired() {
        return this.login.username !== "" && this.expiresAt < Date.now();
    }

    // What the door answers; undefined if it does not let us in.
    async post(door, body) {
        const headers = { "Content-Type": "application/json" };
        if (this.token !== undefined) headers.Authorization = `Bearer ${this.token}`;
        const request = { method: "POST", headers, body: JSON.stringify(body) };
        const response = await fetch(`${this.hub}/api/v1/auth/${door}`, request).catch(() => {
            throw new Error(`No answer from ${this.hub}.`);
        });
        if (response.ok) return response.json();
        if (response.status === 401 || response.status === 403) return undefined;
        const told = await response.json().catch(() => ({}));
        throw new Error(`Signing in failed: ${told.error?.message ?? response.status}.`);
    }
}

const page = {
    opened: 0,

    // `connect` gets a session, also when the page connects anew; `disconnect` lets go of whatever there is.
    start({ connect, disconnect }) {
        const form = document.querySelector("form");
        form.addEventListener("submit", event => {
            event.preventDefault();
            disconnect();
            page.reset();
            page.attempt(new Session(form.elements), connect);
        });
        document.querySelector("#disconnect").addEventListener("click", () => {
            disconnect();
            page.status("Disconnected.");
        });
    },

    // Gets a token that is good, then connects. Who is not let in is asked for another password, not tried again.
    async attempt(session, connect) {
        page.status("Connecting …");
        try {
            await session.freshToken();
        } catch (error) {
            page.status("Not connected.");
            return page.problem(error.message);
        }
        connect(session);
    },

    reset() {
        page.opened = 0;
        page.problem("");
        document.querySelector("#events").replaceChildren();
        for (const figure of document.querySelectorAll("#figures dd")) figure.textContent = "0";
    },

    // The connection is open: for the first time, or again.
    open(how) {
        page.status(`Connected ${how}.`);
        page.problem("");
        if (0 < page.opened++) page.count("reconnects");
    },

    status(text) {
        document.querySelector("#status").textContent = text;
    },

    problem(text) {
        document.querySelector("#problem").textContent = text;
    },

    event(kind, data, id) {
        page.count("received");
        page.list("event", `${kind}${id ? ` ${id}` : ""}: ${data}`);
    },

    // Events are missing, and the hub says so.
    gap({ topic, from, to, reason }) {
        page.count("gaps");
        page.list("gap", `gap in ${topic}: what came after ${from}, up to ${to}, is missing (${reason})`);
    },

    count(figure) {
        const shown = document.querySelector(`#${figure}`);
        shown.textContent = Number(shown.textContent) + 1;
    },

    // Newest first.
    list(kind, text) {
        const entry = document.createElement("li");
        entry.className = kind;
        const time = document.createElement("time");
        time.textContent = new Date().toLocaleTimeString();
        entry.append(time, " ", text);
        const list = document.querySelector("#events");
        list.prepend(entry);
        if (ENTRIES_MAX < list.children.length) list.lastChild.remove();
    },

    // When to come back, in milliseconds: not all pages in the same moment.
    backoff() {
        return 1000 + Math.random() * 2000;
    },
};
