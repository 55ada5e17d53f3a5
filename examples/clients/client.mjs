// Sends GET requests to a service of steerd with node:http.
//
//   node client.mjs URL [TTL [REQUESTS]]
//
// TTL is the TTL of the service, in seconds. Prints the status and the body of each reply. Copy everything
// except the last lines; for https take the Agent and `request` of node:https.

import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

// Timeout for connecting to one address, milliseconds.
const CONNECT_TIMEOUT = 1000;
// Timeout for one attempt, from the lookup to the last byte, milliseconds.
const ATTEMPT_TIMEOUT = 10_000;
// For one request: the first attempt and three retries.
const ATTEMPTS = 4;
// Maximum of the first pause, milliseconds. It doubles with each retry.
const PAUSE = 200;

// Methods that may be sent twice.
const IDEMPOTENT = ['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'];
const RETRIED = [429, 502, 503, 504];

// Bounds the retries of a whole process: in an outage they must not double the load. A retry costs one
// token, and a request earns a tenth: in the long run, one retry per ten requests.
class Budget {
  #tokens = 10;
  earn() {
    this.#tokens = Math.min(10, this.#tokens + 0.1);
  }
  spend() {
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}

// Sends requests over connections that it closes after the TTL. Node does not cache DNS, but a persistent
// connection never resolves again.
class Steered {
  #ttl;
  #agent;
  #freshUntil = 0;
  #budget = new Budget();

  // `ttl` in milliseconds.
  constructor(ttl) {
    this.#ttl = ttl;
  }

  // The current agent. The previous one finishes its requests and then closes its connections.
  #fresh() {
    if (Date.now() >= this.#freshUntil) {
      const old = this.#agent;
      if (old) {
        old.keepAlive = false;
        for (const socket of Object.values(old.freeSockets).flat()) socket.destroy();
      }
      this.#agent = new http.Agent({
        keepAlive: true,
        // Only with this does Node try all addresses of an answer; it is the default from version 20 on. Its
        // default timeout for one address, a quarter of a second, is too short for a distant site.
        autoSelectFamily: true,
        autoSelectFamilyAttemptTimeout: CONNECT_TIMEOUT,
      });
      this.#freshUntil = Date.now() + this.#ttl;
    }
    return this.#agent;
  }

  // One attempt. The last address has no separate timeout, so the attempt has one.
  #attempt(method, url, body) {
    return new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(ATTEMPT_TIMEOUT);
      const request = http.request(url, { method, agent: this.#fresh(), signal }, (reply) => {
        const pieces = [];
        reply.on('data', (piece) => pieces.push(piece));
        reply.on('end', () => resolve({ status: reply.statusCode, body: Buffer.concat(pieces) }));
        reply.on('error', reject);
      });
      request.on('error', reject);
      request.end(body);
    });
  }

  async request(method, url, body) {
    this.#budget.earn();
    for (let attempt = 1; ; attempt++) {
      const mayRepeat = () =>
        attempt < ATTEMPTS && IDEMPOTENT.includes(method) && this.#budget.spend();
      try {
        const reply = await this.#attempt(method, url, body);
        if (!RETRIED.includes(reply.status) || !mayRepeat()) return reply;
      } catch (error) {
        if (!mayRepeat()) throw error;
      }
      // Full jitter: any time up to the limit, so that clients that failed together do not retry together.
      await sleep(Math.random() * PAUSE * 2 ** (attempt - 1));
    }
  }
}

const given = process.argv.slice(2);
const [url, ttl = '20', count = '1'] = given;
if (given.length < 1 || given.length > 3 || ![ttl, count].every((number) => /^\d+$/.test(number))) {
  console.error('usage: client.mjs URL [TTL [REQUESTS]]');
  process.exit(2);
}
const client = new Steered(Number(ttl) * 1000);
for (let number = 0; number < Number(count); number++) {
  try {
    const reply = await client.request('GET', url);
    console.log(`${reply.status} ${reply.body}`);
  } catch (error) {
    console.log(`failed: ${error.message || error.code}`);
  }
  await sleep(100);
}
process.exit();
