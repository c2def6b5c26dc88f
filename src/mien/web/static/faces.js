// How a face is shown: its colours, its box on a canvas, its seven bars.

export const COLOURS = {
  angry: "#d64541", disgust: "#7aa03a", fear: "#8e5ebe", happy: "#f5b82e",
  sad: "#4285c8", surprise: "#f0803c", neutral: "#969ea6",
};

const FLAGS = {
  small: "small in the picture: read with care",
  blurred: "blurred: read with care",
  dark: "too dark: read with care",
  bright: "too bright: read with care",
  rotated: "tilted far: read with care",
  cut: "cut off by the edge: read with care",
};

export const percent = (p) => `${Math.round(100 * p)} %`;

/** A face in words, for labels and screen readers. */
export function inWords(face, name) {
  return `${name}: ${face.uncertain ? "uncertain, perhaps " : ""}${face.expression}, ${percent(face.confidence)}`;
}

/** Draw boxes with captions.
 *  place: a function from the picture's x and y to the canvas's, and `scale`, canvas pixels a picture pixel. */
export function drawBoxes(context, faces, place, scale, { unit, lit = null, name = (face, k) => k + 1 }) {
  const { width, height } = context.canvas;
  context.font = `600 ${unit}px ui-sans-serif, system-ui, sans-serif`;
  context.textBaseline = "middle";
  [...faces.entries()].reverse().forEach(([k, face]) => {
    const [x0, y0, w, h] = face.box;
    const [xa, y] = place(x0, y0);
    const [xb] = place(x0 + w, y0);
    const [x, boxWidth, boxHeight] = [Math.min(xa, xb), Math.abs(xb - xa), h * scale];
    context.globalAlpha = lit === null || lit === k ? 1 : 0.35;
    context.lineWidth = Math.max(2, unit / 6);
    context.strokeStyle = COLOURS[face.expression];
    context.setLineDash(face.uncertain ? [unit / 2, unit / 3] : []);
    context.beginPath();
    context.roundRect(x, y, boxWidth, boxHeight, unit / 2);
    context.stroke();
    context.setLineDash([]);

    const text = `${name(face, k)}  ${face.expression} ${percent(face.confidence)}${face.uncertain ? " ?" : ""}`;
    const pad = unit * 0.45;
    const wide = context.measureText(text).width + 2 * pad;
    const high = unit + 1.2 * pad;
    const left = Math.min(Math.max(0, x), Math.max(0, width - wide));
    const above = y - high - context.lineWidth;
    const top = above >= 0 ? above : Math.min(y + boxHeight + context.lineWidth, height - high);
    context.fillStyle = COLOURS[face.expression];
    context.beginPath();
    context.roundRect(left, top, wide, high, pad);
    context.fill();
    context.fillStyle = "#16181c";
    context.fillText(text, left + pad, top + high / 2 + unit * 0.05);
  });
  context.globalAlpha = 1;
}

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

/** A panel with the answer and seven bars; `update(face)` shows another answer in it. */
export function facePanel(title) {
  const panel = make("section", "face");
  panel.tabIndex = 0;
  const head = make("div", "face-head");
  const number = make("span", "face-number", title);
  const answer = make("strong", "face-answer");
  const confidence = make("span", "face-confidence");
  const badge = make("span", "badge", "uncertain");
  badge.title = "Below the model's threshold: better take no answer than this one.";
  head.append(number, answer, badge, confidence);
  const list = make("ul", "bars");
  const rows = Object.fromEntries(Object.keys(COLOURS).map((expression) => {
    const row = make("li", "bar");
    const fill = make("span", "bar-fill");
    fill.style.backgroundColor = COLOURS[expression];
    const track = make("span", "bar-track");
    track.append(fill);
    const value = make("span", "bar-value");
    row.append(make("span", "bar-name", expression), track, value);
    list.append(row);
    return [expression, { row, fill, value }];
  }));
  const flags = make("p", "fine flags");
  panel.append(head, list, flags);

  panel.update = (face) => {
    panel.setAttribute("aria-label", inWords(face, title));
    panel.classList.toggle("is-uncertain", face.uncertain);
    panel.style.setProperty("--colour", COLOURS[face.expression]);
    answer.textContent = face.expression;
    confidence.textContent = percent(face.confidence);
    badge.hidden = !face.uncertain;
    for (const [expression, { row, fill, value }] of Object.entries(rows)) {
      const p = face.probabilities[expression];
      fill.style.transform = `scaleX(${p})`;
      value.textContent = percent(p);
      row.classList.toggle("is-best", expression === face.expression);
    }
    flags.textContent = face.flags.map((flag) => FLAGS[flag] ?? flag).join("; ");
    flags.hidden = !face.flags.length;
  };
  return panel;
}
