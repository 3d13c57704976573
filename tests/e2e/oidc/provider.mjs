// An OpenID provider (npm's oidc-provider) with the keys, clients and people of the environment's OIDC.
import { Provider } from "oidc-provider";

const { issuer, port, jwks, clients, people, audience } = JSON.parse(process.env.OIDC);

const provider = new Provider(issuer, {
  jwks,
  clients,
  cookies: { keys: ["a key of a test"] },
  scopes: ["openid", "profile", "groups"],
  claims: { openid: ["sub"], profile: ["name"], groups: ["groups"] },
  pkce: { required: () => true },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
  // An access token of a program is a JWT for the hub's API, with the program's groups in it.
  extraTokenClaims: (_, token) => ({ groups: people[token.clientId]?.groups }),
  features: {
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      getResourceServerInfo: () => ({ audience, accessTokenFormat: "jwt", scope: "" }),
    },
  },
});

provider.listen(port, "127.0.0.1", () => console.log("listening"));
