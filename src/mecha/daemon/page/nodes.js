// A card for each node.

import { Chart, precisionBadge } from "./chart.js";
import { Controls } from "./controls.js";
import { badge, copied, element, say, write } from "./parts.js";
import { Picture } from "./picture.js";
import { msWords, rateWords } from "./words.js";

const KINDS = { running: "good", ended: "", waiting: "warn", starting: "warn", ready: "warn", paused: "warn", restarting: "bad", hung: "bad", failed: "bad" };

export class Nodes {
  #cards = new Map();
  #list = document.getElementById("node-list");

  constructor(api) {
    this.api = api;
    setInterval(() => document.hidden || this.#cards.forEach((card) => card.tick()), 1000);
  }

  take(rows) {
    const names = new Set(rows.map(({ name }) => name));
    for (const [name, card] of this.#cards) {
      if (!names.has(name)) {
        card.root.remove();
        this.#cards.delete(name);
      }
    }
    for (const row of rows) {
      if (!this.#cards.has(row.name)) this.#add(row.name);
      this.#cards.get(row.name).take(row);
    }
    if (!rows.length) this.#list.replaceChildren(element("p", { className: "empty", textContent: "This project has no nodes." }));
  }

  event(event) {
    this.#cards.get(event.node)?.event(event);
  }

  #add(name) {
    const card = new Card(this.api, name);
    this.#list.querySelector(".empty")?.remove();
    this.#cards.set(name, card);
    const after = [...this.#cards.keys()].filter((other) => other > name).sort()[0];
    this.#list.insertBefore(card.root, after ? this.#cards.get(after).root : null);
  }
}

class Card {
  #row = {};
  #chosen = false;

  constructor(api, name) {
    const { root, parts } = copied("node-template");
    Object.assign(this, { api, name, root, parts });
    parts.name.textContent = name;
    parts.name.id = `node-${name}`;
    root.setAttribute("aria-labelledby", parts.name.id);
    this.chart = new Chart(parts);
    this.picture = new Picture(api, name, parts);
    this.controls = new Controls(api, name, parts);
    for (const act of ["look", "pause", "restart"]) {
      // A screen reader's list of buttons says which node each belongs to.
      parts[act].setAttribute("aria-describedby", parts.name.id);
    }
    parts.look.addEventListener("click", () => this.#look(!this.picture.on));
    parts.pause.addEventListener("click", () => this.#order(this.#row.state === "paused" ? "resume" : "pause"));
    parts.restart.addEventListener("click", () => this.#order("restart"));
  }

  take(row) {
    Object.assign(this.#row, row);
    const { parts } = this;
    const { state, stats, reason, last_error: error, restarts } = this.#row;
    badge(parts.state, state, KINDS[state] ?? "");
    precisionBadge(parts.precision, stats?.precision);
    badge(parts.notice, [stats?.stale && "stale", stats?.degraded].filter(Boolean).join(", "), "warn");
    write(parts.reason, reason || (state === "running" ? "" : error));
    parts.reason.hidden = !parts.reason.textContent;
    write(parts.pause, state === "paused" ? "Resume" : "Pause");
    parts.pause.disabled = !["running", "paused"].includes(state);
    if (stats) this.#figures(stats, restarts);
    // Nodes with a model show what they find; for others it is a click away.
    if (!this.#chosen && this.#row.model && state === "running") this.#look(true);
  }

  event(event) {
    const { event: kind, node: _, ...rest } = event;
    if (kind === "state") this.take(rest);
    else if (kind === "stats") this.take({ stats: rest });
    else if (kind === "inference") this.chart.take(rest);
    else if (kind === "error") say(this.parts.said, rest.message, true);
    else if (kind === "swap") say(this.parts.said, `${rest.from} → ${rest.to}: ${msWords(rest.before_ms)} → ${msWords(rest.after_ms)} a frame`);
    else if (kind === "degrade") say(this.parts.said, `${rest.from || "all"} → ${rest.to || "all"}: ${rest.reason}`);
  }

  tick() {
    this.chart.draw();
    this.controls.refresh();
  }

  #look(on) {
    this.#chosen = true;
    this.parts.look.setAttribute("aria-pressed", String(on));
    this.picture.switch(on);
  }

  async #order(order) {
    try {
      await this.api.json(`/api/nodes/${encodeURIComponent(this.name)}/${order}`, { method: "POST" });
      say(this.parts.said, { restart: "is started again", pause: "is to pause", resume: "is to go on" }[order]);
    } catch (error) {
      say(this.parts.said, error.message, true);
    }
  }

  #figures(stats, restarts) {
    const rate = stats.fps_out ?? stats.fps_in;
    const figures = {
      Rate: rateWords(rate),
      Median: msWords(stats.p50_ms),
      p95: msWords(stats.p95_ms),
      Frames: String(stats.frames),
      Dropped: String(stats.dropped),
      Restarts: String(restarts ?? 0),
      CPU: stats.cpu_percent === null ? "-" : `${stats.cpu_percent.toFixed(0)} %`,
      Memory: stats.rss_mb === null ? "-" : `${stats.rss_mb.toFixed(0)} MB`,
    };
    const list = this.parts.figures;
    if (!list.childElementCount) {
      for (const name of Object.keys(figures)) {
        list.append(element("div", {}, element("dt", { textContent: name }), element("dd")));
      }
    }
    Object.values(figures).forEach((text, index) => write(list.children[index].lastChild, text));
  }
}
