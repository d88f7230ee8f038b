// Milliseconds a frame of the last minute, a line for each precision.

import { badge, write } from "./parts.js";
import { msWords } from "./words.js";

const SPAN_MS = 60000;
const WIDTH = 600;
const HEIGHT = 100;
const GAP_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";

export class Chart {
  #samples = [];

  constructor({ chart, legend, plot, precision }) {
    Object.assign(this, { chart, legend, plot, precision });
  }

  take({ ms, precision }) {
    this.#samples.push({ at: performance.now(), ms, precision });
  }

  draw() {
    const now = performance.now();
    const first = this.#samples.findIndex(({ at }) => at > now - SPAN_MS);
    this.#samples.splice(0, first < 0 ? this.#samples.length : first);
    this.chart.hidden = this.#samples.length < 2;
    if (this.chart.hidden) return;
    const top = ceiling(Math.max(...this.#samples.map(({ ms }) => ms)));
    this.plot.replaceChildren(line("grid", `M0 ${HEIGHT / 2}H${WIDTH}`));
    for (const [name, path] of this.#paths(now, top)) this.plot.append(line(name, path));
    const words = this.#words(top);
    write(this.legend, words);
    this.plot.setAttribute("aria-label", words);
  }

  #paths(now, top) {
    const paths = [];
    let before = null;
    for (const { at, ms, precision } of this.#samples) {
      const point = `${(WIDTH * (1 - (now - at) / SPAN_MS)).toFixed(1)} ${(HEIGHT * (1 - ms / top)).toFixed(1)}`;
      if (!before || before.precision !== precision || at - before.at > GAP_MS) {
        paths.push([className(precision), `M${point}`]);
      } else {
        paths.at(-1)[1] += `L${point}`;
      }
      before = { at, precision };
    }
    return paths;
  }

  #words(top) {
    const by = new Map();
    for (const { ms, precision } of this.#samples) {
      if (!by.has(precision)) by.set(precision, []);
      by.get(precision).push(ms);
    }
    const medians = [...by].map(([precision, all]) => `${precision || "step"} ${msWords(quantile(all, 0.5))}, p95 ${msWords(quantile(all, 0.95))}`);
    return `Last minute, 0 to ${top} ms: ${medians.join("; ")}`;
  }
}

export function precisionBadge(node, precision) {
  badge(node, precision ?? "", className(precision));
}

function className(precision) {
  return { INT8: "int8", FP32: "fp32" }[precision] ?? "other";
}

function quantile(values, part) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
}

// The next of 1, 2, 5, 10, 20, 50 …: the scale does not change with each frame.
function ceiling(value) {
  const ten = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * ten).find((step) => step >= value);
}

function line(name, path) {
  const made = document.createElementNS(SVG, "path");
  made.setAttribute("class", name);
  made.setAttribute("d", path);
  return made;
}
