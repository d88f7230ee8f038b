// The log: its last lines, and those that come.

const KEPT = 500;
const LEVEL = /^\[([A-Z]+)\]/;

// The lines that the daemon keeps, and those that came while it was asked for them, each once.
export function joined(kept, came) {
  for (let common = Math.min(kept.length, came.length); common > 0; common--) {
    if (came.slice(0, common).every((line, i) => line === kept[kept.length - common + i])) {
      return [...kept, ...came.slice(common)];
    }
  }
  return [...kept, ...came];
}

export class Log {
  #box = document.getElementById("log-lines");
  #follow = document.getElementById("log-follow");
  #came = null;

  constructor(api) {
    this.api = api;
    const level = document.getElementById("log-level");
    level.addEventListener("change", () => {
      this.#box.dataset.level = level.value;
      this.#scroll();
    });
    this.#follow.addEventListener("change", () => this.#scroll());
  }

  // Called when events begin to come: lines from before are asked for.
  async begin() {
    this.#came = [];
    try {
      const { lines } = await this.api.json("/api/log");
      const all = joined(lines, this.#came);
      this.#box.replaceChildren();
      this.#add(all);
    } finally {
      this.#came = null;
    }
  }

  take(line) {
    if (this.#came) this.#came.push(line);
    else this.#add([line]);
  }

  #add(lines) {
    for (const text of lines.slice(-KEPT)) {
      const line = document.createElement("div");
      line.textContent = text;
      line.className = LEVEL.exec(text)?.[1] ?? "";
      this.#box.append(line);
    }
    while (this.#box.childElementCount > KEPT) this.#box.firstElementChild.remove();
    this.#scroll();
  }

  #scroll() {
    if (this.#follow.checked) this.#box.scrollTop = this.#box.scrollHeight;
  }
}
