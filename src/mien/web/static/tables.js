// Readings as files: the JSON and the columns that `mien read --json` and `--csv` have.

import { COLOURS } from "./faces.js";

const EXPRESSIONS = Object.keys(COLOURS);

export const COLUMNS = [
  "source", "frame", "time_s", "track", "x", "y", "w", "h", "score", "expression", "confidence", "uncertain",
  ...EXPRESSIONS.map((expression) => `p_${expression}`), "flags",
];

const cell = (value) => {
  const text = value === undefined || value === null ? "" : value === true ? "True" : value === false ? "False" : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

function rows(photo) {
  if (!photo.faces.length) return [{ source: photo.source }];
  return photo.faces.map((face) => {
    const [x, y, w, h] = face.box;
    const { score, expression, confidence, uncertain } = face;
    const probabilities = Object.fromEntries(EXPRESSIONS.map((e) => [`p_${e}`, face.probabilities[e]]));
    return { source: photo.source, x, y, w, h, score, expression, confidence, uncertain, ...probabilities,
             flags: face.flags.join(" ") };
  });
}

export const toJson = (photos) => photos.map((photo) => `${JSON.stringify(photo)}\n`).join("");

export function toCsv(photos) {
  const lines = photos.flatMap(rows).map((row) => COLUMNS.map((column) => cell(row[column])).join(","));
  return [COLUMNS.join(","), ...lines, ""].join("\n");
}

/** Have the browser save something. */
export function save(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
