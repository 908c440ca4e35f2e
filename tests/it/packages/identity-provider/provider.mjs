// An OpenID provider on a port of its own, which it prints as its issuer. It has one client, whose tokens look like Keycloak's. Each line
// on standard input makes it sign with another key; the former ones are gone.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";

function newKey() {
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "RS256" };
}

function provider(issuer) {
    const made = new Provider(issuer, {
        clients: [{
            client_id: "dashboard", client_secret: "a secret of the client, for tests only", redirect_uris: [], response_types: [],
            grant_types: ["client_credentials"],
        }],
        jwks: { keys: [newKey()] },
        ttl: { ClientCredentials: 300 },
        features: {
            devInteractions: { enabled: false },
            clientCredentials: { enabled: true },
            resourceIndicators: {
                enabled: true,
                getResourceServerInfo: (_, resource) => ({
                    scope: "wells:read", audience: resource, accessTokenTTL: 300, accessTokenFormat: "jwt",
                }),
            },
        },
        extraTokenClaims: () => ({ realm_access: { roles: ["offline_access", "operator"] } }),
    });
    return made.callback();
}

const server = createServer((request, response) => answer(request, response));
let answer;
server.listen(0, "127.0.0.1", () => {
    const issuer = `http://127.0.0.1:${server.address().port}`;
    answer = provider(issuer);
    console.log(issuer);
    createInterface({ input: process.stdin }).on("line", () => {
        answer = provider(issuer);
        console.log("another key");
    }).on("close", () => process.exit());
});
