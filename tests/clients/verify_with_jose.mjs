// A second implementation's verdict on what is signed. Reads {"keys", "cases"} from standard input; writes, for each case by
// its name, which of its signed texts hold: true, or why not. It does no more than signatures, algorithms and types.
import { compactVerify, createLocalJWKSet, decodeProtectedHeader } from "jose";

let input = "";
for await (const chunk of process.stdin) input += chunk;
const { keys, cases } = JSON.parse(input);

const REPLY = "license-reply+jwt";
const FILE = "license-file+jwt";
const KEY_SET = "jwk-set+jwt";

// The payload of a token that one of these keys has signed. `kid` is a hint, so each is tried in the name that the token gives.
async function verified(token, trusted, types) {
  const { kid } = decodeProtectedHeader(token);
  const attempts = trusted.map((jwk) => compactVerify(token, createLocalJWKSet({ keys: [{ ...jwk, kid }] }), { algorithms: ["RS256"] }));
  const { payload, protectedHeader } = await Promise.any(attempts);
  if (!types.includes(protectedHeader.typ)) throw new Error(`typ is ${protectedHeader.typ}`);
  return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
}

async function trustedAfter(pinned, keySets, issuer) {
  let trusted = pinned;
  for (const token of keySets) {
    try {
      const claims = await verified(token, trusted, [KEY_SET]);
      if (claims.iss !== issuer) continue;
      trusted = [...pinned, ...claims.keys];
    } catch {
      continue;
    }
  }
  return trusted;
}

async function verdict(token, trusted, types) {
  try {
    await verified(token, trusted, types);
    return true;
  } catch (error) {
    // Signed, but no JSON: that is for others to say.
    return error instanceof SyntaxError || error.code === "ERR_ENCODING_INVALID_ENCODED_DATA" || String(error.message ?? error);
  }
}

const body = (exchange) => exchange.body + "A".repeat(exchange.padding);
const came = (exchange) => exchange?.status === 200;

const verdicts = {};
for (const each of cases) {
  const pinned = each.client.pinnedKeys.map((name) => keys[name].jwk);
  const before = await trustedAfter(pinned, each.stored.keySets, each.client.issuer);
  const trusted = await trustedAfter(pinned, each.expected.stored.keySets, each.client.issuer);
  const asked = {};
  if (came(each.keySet)) asked.keySetReason = await verdict(body(each.keySet), before, [KEY_SET]);
  if (came(each.reply)) asked.reason = await verdict(body(each.reply), trusted, [REPLY]);
  if (each.licenseFile !== null) asked.reason = await verdict(each.licenseFile, trusted, [FILE]);
  if (each.expected.stored.reply) asked.storedReason = await verdict(each.expected.stored.reply, trusted, [REPLY, FILE]);
  verdicts[each.name] = asked;
}
console.log(JSON.stringify(verdicts));
