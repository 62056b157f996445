// A second implementation's verdict: reads {"jwks", "pems", "token", "typ"} from standard input, and writes what it has
// verified, or fails.
import { calculateJwkThumbprint, compactVerify, createLocalJWKSet, importSPKI } from "jose";

let input = "";
for await (const chunk of process.stdin) input += chunk;
const { jwks, pems, token, typ } = JSON.parse(input);

const { payload, protectedHeader } = await compactVerify(token, createLocalJWKSet(jwks), { algorithms: ["RS256"] });
if (protectedHeader.typ !== typ) throw new Error(`typ is ${protectedHeader.typ}`);
const byPem = await compactVerify(token, await importSPKI(pems[protectedHeader.kid], "RS256"));
const thumbprints = await Promise.all(jwks.keys.map((jwk) => calculateJwkThumbprint(jwk)));

console.log(JSON.stringify({
  claims: JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload)),
  claimsByPem: JSON.parse(new TextDecoder().decode(byPem.payload)),
  protectedHeader,
  thumbprints,
}));
