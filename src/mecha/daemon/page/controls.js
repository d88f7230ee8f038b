// What can be changed while a node runs: its precision, its thresholds, whether it works at all.

import { UNREACHABLE } from "./api.js";
import { element, say } from "./parts.js";

const PRECISIONS = [
  [true, "INT8"],
  [false, "FP32"],
  ["auto", "auto: what is faster here"],
];
const EVERY_MS = 5000;

export class Controls {
  #config = null;
  #fields = new Map();
  #read = -EVERY_MS;
  // What was chosen while something else was written: the last value of each key.
  #wanted = new Map();
  #writing = false;

  constructor(api, name, { controls, said }) {
    Object.assign(this, { api, name, form: controls, said });
    this.path = `/api/nodes/${encodeURIComponent(name)}/config`;
    this.form.addEventListener("submit", (event) => event.preventDefault());
  }

  // Files change under the page as well: others edit them.
  async refresh() {
    if (performance.now() - this.#read < EVERY_MS) return;
    this.#read = performance.now();
    try {
      this.#take(await this.api.json(this.path));
    } catch (error) {
      // The head of the page says so already, and when it is over.
      if (error.status !== UNREACHABLE) say(this.said, error.message, true);
    }
  }

  // One after the other: two at once could be written in the other order.
  async #change(key, value) {
    say(this.said, `${key}: ${value} …`);
    this.#wanted.set(key, value);
    if (this.#writing) return;
    this.#writing = true;
    while (this.#wanted.size) {
      const [next] = this.#wanted;
      this.#wanted.delete(next[0]);
      await this.#write(...next);
    }
    this.#writing = false;
  }

  async #write(key, value) {
    try {
      const answer = await this.api.json(this.path, { method: "PATCH", body: { [key]: value } });
      this.#take(answer, true);
      say(this.said, `${key} is ${value}: written to ${answer.written_to}`);
    } catch (error) {
      if (this.#config) this.#show(true);
      say(this.said, error.message, true);
    }
  }

  #take({ config, constraints }, all = false) {
    const first = this.#config === null;
    this.#config = config;
    if (first) this.#build(constraints.properties ?? {});
    this.#show(all);
  }

  #build(properties) {
    if ("use_int8" in this.#config) this.#addPrecision();
    for (const [key, rule] of Object.entries(properties)) {
      if (rule.type === "number" && rule.minimum === 0 && rule.maximum === 1) this.#addShare(key);
    }
    if ("enabled" in this.#config) this.#addSwitch("enabled");
    this.form.hidden = this.#fields.size === 0;
    this.form.setAttribute("aria-label", `What ${this.name} runs with`);
  }

  #addPrecision() {
    const group = element("fieldset", {}, element("legend", { textContent: "Precision" }));
    const inputs = PRECISIONS.map(([value, words]) => {
      const input = element("input", { type: "radio", name: `${this.name}.use_int8` });
      input.addEventListener("change", () => this.#change("use_int8", value));
      group.append(element("label", {}, input, words));
      return [value, input];
    });
    this.form.append(group);
    this.#fields.set("use_int8", { within: group, show: (now) => inputs.forEach(([value, input]) => (input.checked = value === now)) });
  }

  #addShare(key) {
    const id = `${this.name}.${key}`;
    const input = element("input", { type: "range", id, min: 0, max: 1, step: 0.01 });
    // To be seen only: a screen reader reads the value of the slider itself.
    const shown = element("span", { className: "value", ariaHidden: "true" });
    const show = (value) => (shown.textContent = Number(value).toFixed(2));
    input.addEventListener("input", () => show(input.value));
    input.addEventListener("change", () => this.#change(key, Number(input.value)));
    const words = key.replaceAll("_", " ").replace("iou", "IoU");
    const within = element("div", { className: "slide" }, element("label", { htmlFor: id, textContent: words }), input, shown);
    this.form.append(within);
    this.#fields.set(key, {
      within,
      show: (value) => {
        input.value = value;
        show(value);
      },
    });
  }

  #addSwitch(key) {
    const input = element("input", { type: "checkbox" });
    input.addEventListener("change", () => this.#change(key, input.checked));
    const within = element("label", {}, input, key);
    this.form.append(within);
    this.#fields.set(key, { within, show: (value) => (input.checked = value) });
  }

  // What somebody holds just now is not moved under the hand, unless it was just written; nor what is still to be written.
  #show(all) {
    for (const [key, { within, show }] of this.#fields) {
      if (this.#wanted.has(key)) continue;
      if (all || !within.contains(document.activeElement)) show(this.#config[key]);
    }
  }
}
