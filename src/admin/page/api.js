// Requests to the API of the server that this page comes from, with the token of this tab.

import { askForToken, tokenOfTab } from "./token.js";

const BASE = new URL("api/v1/", document.baseURI);
/// Longer than the server lets a request wait.
const PATIENCE = 35_000;

/// A reply that is not a success. `detail` is the server's sentence, `problem` its whole document.
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `the server answers with status ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

/// The request could not be made, or brought no reply.
export class Unreachable extends Error {}

export const poolPath = (pool) => `pools/${encodeURIComponent(pool)}`;
export const backendPath = (pool, backend, kind) =>
  `${poolPath(pool)}/backends/${encodeURIComponent(backend)}/${kind}`;
export const servicePath = (service, what) => `services/${encodeURIComponent(service)}/${what}`;

/// Sends a request, with the token if this tab has one.
export async function send(path, { method = "GET", body, headers = {}, signal } = {}) {
  const token = tokenOfTab();
  const options = { method, headers: { Accept: "application/json", ...headers }, cache: "no-store", signal };
  if (token) options.headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(new URL(path, BASE), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable(error.name === "TimeoutError" ? "it has not answered in time" : "it cannot be reached");
  }
  if (!response.ok) throw new Refused(response.status, await problemOf(response));
  return response;
}

/// The JSON of a reply, or its text. If the token is missing or wrong, asks for it and tries again; `quiet` leaves that to the caller.
export async function request(path, options = {}) {
  for (;;) {
    const signal = AbortSignal.any([AbortSignal.timeout(PATIENCE), ...(options.signal ? [options.signal] : [])]);
    try {
      const response = await send(path, { ...options, signal });
      return options.asText ? await response.text() : await response.json();
    } catch (error) {
      if (error.status !== 401 || options.quiet) throw error;
      await askForToken(error);
    }
  }
}

async function problemOf(response) {
  try {
    const problem = await response.json();
    return typeof problem === "object" && problem !== null ? problem : {};
  } catch {
    return {};
  }
}
