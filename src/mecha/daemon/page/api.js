// Requests to the daemon: with the token where one is asked for, and with its errors as they are.

const KEY = "mecha.token";
const AGAIN_MS = 2000;
const SILENT_MS = 40000;
export const UNREACHABLE = 0;

export class Problem extends Error {
  constructor(status, { error, hint } = {}) {
    super([error ?? `the daemon answered ${status}`, hint].filter(Boolean).join(" "));
    this.status = status;
  }
}

export class Api {
  #askToken;
  #asking = null;

  // askToken: shows a fault ("" at first) and returns a promise of what was typed.
  constructor(askToken) {
    this.#askToken = askToken;
  }

  async request(path, { method = "GET", body, signal, headers = {} } = {}) {
    for (;;) {
      const token = sessionStorage.getItem(KEY);
      const sent = { ...headers };
      if (token) sent.Authorization = `Bearer ${token}`;
      if (body !== undefined) sent["Content-Type"] = "application/json";
      const response = await fetch(path, {
        method,
        headers: sent,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
        cache: "no-store",
        credentials: "omit",
      }).catch(() => {
        // Each browser has words of its own for it, and none says who.
        throw new Problem(UNREACHABLE, { error: "the daemon cannot be reached" });
      });
      if (response.status !== 401) return response;
      await this.#otherToken(token);
    }
  }

  async json(path, options) {
    const response = await this.request(path, options);
    if (!response.ok) throw await problemOf(response);
    const text = await response.text();
    return text ? JSON.parse(text) : null;
  }

  // Gives each JSON line of an answer to `take`.
  async lines(path, options, take) {
    const response = await this.request(path, options);
    if (!response.ok) throw await problemOf(response);
    await pieces(response, "\n", (line) => line.trim() && take(JSON.parse(line)));
  }

  // Follows the events for as long as the page is there. `opened` is called each time they begin to come.
  async follow(path, { opened, event, lost }) {
    for (;;) {
      const stop = new AbortController();
      let timer = setTimeout(() => stop.abort(), SILENT_MS);
      try {
        const response = await this.request(path, { signal: stop.signal });
        if (!response.ok) throw await problemOf(response);
        opened();
        await pieces(response, "\n\n", (block) => {
          clearTimeout(timer);
          timer = setTimeout(() => stop.abort(), SILENT_MS);
          const data = block.split("\n").filter((line) => line.startsWith("data: "));
          if (data.length) event(JSON.parse(data.map((line) => line.slice(6)).join("\n")));
        });
        lost("the daemon has ended the connection");
      } catch (error) {
        lost(error instanceof Problem ? error.message : "the daemon cannot be reached");
      } finally {
        clearTimeout(timer);
      }
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  }

  // Many requests may find out together that a token is needed: it is asked for once.
  async #otherToken(tried) {
    if (sessionStorage.getItem(KEY) !== tried) return;
    this.#asking ??= this.#askToken(tried ? "The token is wrong." : "").finally(() => (this.#asking = null));
    sessionStorage.setItem(KEY, await this.#asking);
  }
}

async function problemOf(response) {
  try {
    return new Problem(response.status, await response.json());
  } catch {
    return new Problem(response.status);
  }
}

async function pieces(response, end, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split(end);
    rest = parts.pop();
    parts.forEach(take);
  }
  if (rest) take(rest);
}
