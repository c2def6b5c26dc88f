// One strip a face: what it expressed over the last half minute, as stacked bands.

import { COLOURS } from "./faces.js";

const SECONDS = 30;
const GONE = 12; // seconds after which the strip of a face that left is taken away
const HELD = 0.6; // seconds for which an answer stands, where the next one is late

export class Timelines {
  constructor(container) {
    this.container = container;
    this.strips = new Map(); // by track
  }

  clear() {
    this.strips.clear();
    this.container.replaceChildren();
  }

  /** Faces with their names at a time in seconds, then paint. */
  add(time, faces) {
    for (const { key, name, face } of faces) {
      if (!this.strips.has(key)) this.strips.set(key, this.#newStrip(name));
      const strip = this.strips.get(key);
      strip.points.push({ time, face });
      while (strip.points[0].time < time - SECONDS - HELD) strip.points.shift();
    }
    for (const [key, strip] of this.strips) {
      if (strip.points.at(-1).time < time - GONE) {
        strip.row.remove();
        this.strips.delete(key);
      } else {
        this.#paint(strip, time);
      }
    }
  }

  #newStrip(name) {
    const row = document.createElement("div");
    row.className = "strip";
    const label = document.createElement("span");
    label.textContent = name;
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    row.append(label, canvas);
    this.container.append(row);
    return { row, name, canvas, points: [] };
  }

  #paint({ canvas, name, points }, now) {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const x = (time) => width * (1 - (now - time) / SECONDS);
    points.forEach(({ time, face }, k) => {
      const end = Math.min(points[k + 1]?.time ?? now, time + HELD);
      const [left, right] = [Math.floor(x(time)), Math.ceil(x(Math.max(end, time)))];
      context.globalAlpha = face.uncertain ? 0.4 : 1;
      let bottom = height;
      for (const [expression, colour] of Object.entries(COLOURS)) {
        const high = face.probabilities[expression] * height;
        context.fillStyle = colour;
        context.fillRect(left, bottom - high, Math.max(1, right - left), high);
        bottom -= high;
      }
    });
    const shares = {};
    for (const { face } of points) shares[face.expression] = (shares[face.expression] ?? 0) + 1;
    const words = Object.entries(shares).sort((a, b) => b[1] - a[1])
      .map(([expression, count]) => `${expression} ${Math.round((100 * count) / points.length)} % of the time`);
    canvas.setAttribute("aria-label", `${name}, last ${SECONDS} seconds: ${words.join(", ")}`);
  }
}
