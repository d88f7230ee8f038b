// The table of models.

import { badge, copied, say, write } from "./parts.js";
import { msWords, progressWords, sizeWords } from "./words.js";

const AT_WORK = new Set(["pulling", "verifying", "quantizing", "gating"]);
const KINDS = { ready: "good", degraded: "warn", "fp32-only": "warn", broken: "bad", absent: "bad" };
const SOON_MS = 400;

export class Models {
  #rows = new Map();
  #list = document.getElementById("model-list");
  #said = document.getElementById("model-said");
  #soon = null;

  constructor(api, sure) {
    Object.assign(this, { api, sure });
  }

  async refresh() {
    const { models } = await this.api.json("/api/models");
    const names = new Set(models.map(({ name }) => name));
    for (const [name, row] of this.#rows) {
      if (!names.has(name)) {
        row.root.remove();
        this.#rows.delete(name);
      }
    }
    for (const model of models) {
      if (!this.#rows.has(model.name)) this.#add(model.name);
      this.#rows.get(model.name).take(model);
    }
    this.#sort(models);
  }

  event(event) {
    const row = this.#rows.get(event.name);
    const changed = !row || row.model.status?.state !== event.state;
    row?.take({ ...row.model, status: { ...row.model.status, ...event } });
    if (changed) this.#soon ??= setTimeout(() => ((this.#soon = null), this.refresh().catch(() => {})), SOON_MS);
  }

  #add(name) {
    const row = new Row(name);
    row.parts.pull.addEventListener("click", () => this.#pull(name));
    row.parts.remove.addEventListener("click", () => this.#remove(name));
    this.#rows.set(name, row);
    this.#list.append(row.root);
  }

  // What is on this device first. Rows that stand right are not moved: a button in them keeps the focus.
  #sort(models) {
    const there = (model) => (model.state === "available" && !AT_WORK.has(model.status?.state) && !model.status?.wanted_by?.length ? 1 : 0);
    const names = [...models].sort((a, b) => there(a) - there(b) || a.name.localeCompare(b.name)).map(({ name }) => name);
    names.forEach((name, index) => {
      const { root } = this.#rows.get(name);
      if (this.#list.children[index] !== root) this.#list.insertBefore(root, this.#list.children[index] ?? null);
    });
  }

  async #pull(name) {
    say(this.#said, `${name}: is being pulled`);
    this.#rows.get(name).parts.pull.disabled = true;
    try {
      await this.api.lines("/api/pull", { method: "POST", body: { model: name } }, (line) => {
        if (line.error) throw new Error([line.error, line.hint].filter(Boolean).join(" "));
        if (line.status === "success") say(this.#said, `${name}: ${line.report?.message || "is pulled"}`);
      });
    } catch (error) {
      say(this.#said, `${name}: ${error.message}`, true);
    }
    await this.refresh().catch(() => {});
  }

  async #remove(name) {
    if (!(await this.sure(`Remove ${name}?`, "Its folder in models/ goes; it can be pulled again.", "Remove"))) return;
    try {
      await this.api.json("/api/delete", { method: "DELETE", body: { model: name } });
      say(this.#said, `${name}: is removed`);
    } catch (error) {
      say(this.#said, `${name}: ${error.message}`, true);
    }
    await this.refresh().catch(() => {});
  }
}

class Row {
  constructor(name) {
    const { root, parts } = copied("model-template");
    Object.assign(this, { root, parts, model: {} });
    parts.name.textContent = name;
    parts.pull.setAttribute("aria-label", `Pull ${name}`);
    parts.remove.setAttribute("aria-label", `Remove ${name}`);
    parts.progress.setAttribute("aria-label", `Progress of ${name}`);
  }

  take(model) {
    this.model = model;
    const { parts } = this;
    const { state, status } = model;
    const works = AT_WORK.has(status?.state);
    // What the daemon does about it says more than what lies there, unless all is well.
    const shown = status && (works || status.state !== "ready") ? status.state : state;
    badge(parts.state, shown, KINDS[shown] ?? "");
    const users = status?.wanted_by?.length ? `run by ${status.wanted_by.join(", ")}` : "";
    write(parts.about, [model.description, model.licence, users].filter(Boolean).join(" · "));
    write(parts.reason, works ? progressWords(status) : [status?.reason, status?.retry_at && `tried again at ${clock(status.retry_at)}`].filter(Boolean).join("; "));
    this.#progress(works, status);
    write(parts.size, [["FP32", model.fp32_bytes], ["INT8", model.int8_bytes]].filter(([, bytes]) => bytes).map(([name, bytes]) => `${name} ${sizeWords(bytes)}`).join(", "));
    write(parts.speed, speedWords(model));
    write(parts.verdict, verdictWords(model));
    parts.pull.hidden = works || state === "ready";
    parts.pull.disabled = false;
    parts.remove.hidden = works || state === "available" || Boolean(users);
  }

  #progress(works, status) {
    const bar = this.parts.progress;
    bar.hidden = !works;
    if (works && status.total) {
      bar.max = status.total;
      bar.value = Math.min(status.completed, status.total);
    } else {
      bar.removeAttribute("value");
    }
  }
}

function speedWords({ fp32_ms: fp32, int8_ms: int8, speedup }) {
  if (fp32 === null || int8 === null) return "";
  return `FP32 ${msWords(fp32)}, INT8 ${msWords(int8)}${speedup === null ? "" : `: ${speedup.toFixed(2)}x`}`;
}

function verdictWords({ verdict, method, agreement, provisional }) {
  const parts = [verdict, method, agreement === null ? null : `agreement ${agreement.toFixed(2)}`, provisional ? "provisional" : null];
  return parts.filter(Boolean).join(", ");
}

function clock(iso) {
  return new Date(iso).toLocaleTimeString();
}
