// The live picture of a node, with boxes. It is asked for only while somebody can see it.

import { Problem } from "./api.js";
import { write } from "./parts.js";
import { foundWords } from "./words.js";

const EVERY_MS = 120;
const NOTHING_MS = 2000;
const KEPT = 4;
const OLD_MS = 2000;
const NS_PER_MS = 1e6;

export class Picture {
  #on = false;
  #seen = false;
  #works = false;
  #etag = "";
  #frames = [];
  #label = 0;
  // Whether the node finds things is known after the first question.
  #finds = true;

  constructor(api, name, { view, picture, found }) {
    Object.assign(this, { api, name, view, canvas: picture, found });
    this.path = `/api/nodes/${encodeURIComponent(name)}`;
    new IntersectionObserver((entries) => {
      this.#seen = entries.at(-1).isIntersecting;
      this.#work();
    }).observe(view);
    document.addEventListener("visibilitychange", () => this.#work());
  }

  get on() {
    return this.#on;
  }

  switch(on) {
    this.#on = on;
    this.view.hidden = !on;
    this.#work();
  }

  get #wanted() {
    return this.#on && this.#seen && !document.hidden;
  }

  async #work() {
    if (this.#works) return;
    this.#works = true;
    while (this.#wanted) {
      const next = performance.now() + EVERY_MS;
      let wait = 0;
      try {
        const [frame, detections] = await Promise.all([this.#frame(), this.#detections()]);
        if (frame) this.#keep(frame);
        this.#draw(detections);
      } catch (error) {
        write(this.found, error instanceof Problem ? error.message : "the picture cannot be read");
        wait = NOTHING_MS;
      }
      await new Promise((done) => setTimeout(done, Math.max(wait, next - performance.now())));
    }
    this.#works = false;
  }

  async #frame() {
    const response = await this.api.request(`${this.path}/frame.jpg`, { headers: { "If-None-Match": this.#etag } });
    if (response.status === 304) return null;
    if (!response.ok) throw new Problem(response.status, await response.json());
    this.#etag = response.headers.get("ETag") ?? "";
    const [width, height] = response.headers.get("X-Frame-Size").split("x").map(Number);
    return {
      seq: Number(response.headers.get("X-Frame")),
      capturedMs: Number(response.headers.get("X-Captured-At")) / NS_PER_MS,
      width,
      height,
      image: await createImageBitmap(await response.blob()),
    };
  }

  async #detections() {
    if (!this.#finds) return null;
    const response = await this.api.request(`${this.path}/detections`);
    if (response.status === 404) this.#finds = false;
    return response.ok ? response.json() : null;
  }

  #keep(frame) {
    // A camera that was started again counts from 0.
    if (this.#frames.length && frame.seq < this.#frames.at(-1).seq) this.#forget(this.#frames.length);
    this.#frames.push(frame);
    this.#forget(this.#frames.length - KEPT);
  }

  #forget(count) {
    for (const { image } of this.#frames.splice(0, Math.max(0, count))) image.close();
  }

  // Detections come after their frame: they are drawn on the one of their number, or the nearest.
  #draw(detections) {
    if (!this.#frames.length) return;
    const newest = this.#frames.at(-1);
    const age = detections ? newest.capturedMs - detections.captured_at / NS_PER_MS : Infinity;
    const fresh = detections && age < OLD_MS;
    const frame = fresh ? nearest(this.#frames, detections.frame) : newest;
    const { image } = frame;
    if (this.canvas.width !== image.width) this.canvas.width = image.width;
    if (this.canvas.height !== image.height) this.canvas.height = image.height;
    const brush = this.canvas.getContext("2d");
    brush.drawImage(image, 0, 0);
    if (fresh) drawBoxes(brush, detections, image);
    this.#tell(frame, detections, fresh);
  }

  #tell(frame, detections, fresh) {
    const now = performance.now();
    if (now - this.#label < 1000) return;
    this.#label = now;
    let words = `Frame ${frame.seq}, ${frame.width}x${frame.height}`;
    if (fresh) words += `: ${foundWords(detections.detections)} (${detections.model}, ${detections.precision})`;
    if (fresh && detections.stale) words += "; stale: the camera gives no frames";
    if (detections && !fresh) words += "; detections are too old to be shown";
    write(this.found, words);
    this.canvas.setAttribute("aria-label", `What ${this.name} sees. ${words}`);
  }
}

function nearest(frames, seq) {
  return frames.reduce((best, frame) => (Math.abs(frame.seq - seq) <= Math.abs(best.seq - seq) ? frame : best));
}

function drawBoxes(brush, { width, height, detections, stale }, image) {
  const [scaleX, scaleY] = [image.width / width, image.height / height];
  const size = Math.max(12, Math.round(image.width / 45));
  brush.lineWidth = Math.max(2, image.width / 300);
  brush.font = `600 ${size}px system-ui, sans-serif`;
  brush.textBaseline = "middle";
  brush.setLineDash(stale ? [8, 6] : []);
  for (const { label, class_id: id, score, box } of [...detections].reverse()) {
    const [x1, y1, x2, y2] = [box[0] * scaleX, box[1] * scaleY, box[2] * scaleX, box[3] * scaleY];
    // Steps of the golden angle: neighbours in the list of classes differ most.
    const colour = `hsl(${(id * 137.5 + 200) % 360} 90% 62%)`;
    const words = `${label} ${score.toFixed(2)}`;
    const wide = brush.measureText(words).width + size / 2;
    const tall = size * 1.3;
    const x = Math.max(0, Math.min(x1, image.width - wide));
    const y = y1 >= tall ? y1 - tall : Math.min(y1, image.height - tall);
    brush.strokeStyle = brush.fillStyle = colour;
    brush.strokeRect(x1, y1, x2 - x1, y2 - y1);
    brush.fillRect(x, y, wide, tall);
    brush.fillStyle = "#000";
    brush.fillText(words, x + size / 4, y + tall / 2);
  }
}
