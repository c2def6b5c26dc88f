// Photos in, cards out.

import { call, card as modelCard } from "./api.js";
import { drawBoxes, facePanel, inWords } from "./faces.js";
import { save, toCsv, toJson } from "./tables.js";

const SHOWN = 1600; // pixels of a card's longer side at most

const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const stem = (name) => name.replace(/\.[^.]*$/, "") || "photo";

/** A list of cards in `container`. */
export class Results {
  constructor(container, { announce, changed = () => {} }) {
    Object.assign(this, { container, announce, changed, photos: new Map(), pictures: new Set(), round: 0 });
  }

  /** All readings, the newest photo first. */
  all() {
    return [...this.container.children].map((card) => this.photos.get(card)).filter(Boolean);
  }

  /** Take all cards away; photos that still wait are not read any more. */
  clear() {
    this.round += 1;
    for (const picture of this.pictures) picture.close();
    this.pictures.clear();
    this.photos.clear();
    this.container.replaceChildren();
    this.changed();
  }

  /** Read files, a few at a time; each gets a card at once. */
  async add(files) {
    const waiting = files.map((file) => ({ file, card: this.#newCard(file.name) }));
    this.container.prepend(...waiting.map(({ card }) => card));
    const total = waiting.length;
    const about = modelCard(); // once for all of them: whoever leaves the question for a token is not asked again
    let [faces, failed] = [0, 0];
    const { round } = this;
    const work = async () => {
      for (let next = waiting.shift(); next && round === this.round; next = waiting.shift()) {
        const photo = await this.#read(next.file, next.card, about);
        if (photo) faces += photo.faces.length;
        else failed += 1;
        this.changed();
      }
    };
    await Promise.all(Array.from({ length: 4 }, work));
    if (round !== this.round) return;
    const bad = failed ? `, ${failed} could not be read` : "";
    this.announce(`${plural(total - failed, "photo")} read, ${plural(faces, "face")} found${bad}.`);
  }

  #newCard(name) {
    const card = document.getElementById("card").content.firstElementChild.cloneNode(true);
    card.querySelector("h2").textContent = name;
    return card;
  }

  async #read(file, card, about) {
    try {
      const { limits } = await about;
      if (!file.size) throw Object.assign(new Error("This file is empty."), { hint: "Choose another one, or get it again." });
      if (file.size > limits.body) {
        throw Object.assign(new Error(`This file has ${(file.size / 1e6).toFixed(1)} MB; the server takes ${limits.body / 1e6} MB.`),
                            { hint: "Save it smaller, or start the server with a larger --max-body." });
      }
      await file.slice(0, 1).arrayBuffer().catch(() => {
        throw Object.assign(new Error("This file cannot be read."),
                            { hint: "If it is a folder, open it and take the photos in it; or it was moved." });
      });
      const path = `/v1/read?source=${encodeURIComponent(file.name.slice(0, 300).toWellFormed())}`;
      const photo = await call(path, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
      const scale = Math.min(1, SHOWN / Math.max(photo.width, photo.height));
      const picture = await decoded(file, photo, scale);
      if (!card.isConnected) {
        picture?.close();
        return null;
      }
      this.photos.set(card, photo);
      this.#show(card, photo, picture, scale, file);
      return photo;
    } catch (error) {
      card.classList.add("is-bad");
      card.querySelector(".summary").textContent = error.message;
      card.querySelector(".body").textContent = error.hint ?? "";
      return null;
    } finally {
      card.setAttribute("aria-busy", "false");
    }
  }

  #show(card, photo, picture, scale, file) {
    const found = photo.faces.length ? plural(photo.faces.length, "face") : "No face found";
    card.querySelector(".summary").textContent = `${found} · ${photo.width} × ${photo.height}`;
    card.querySelector(".downloads").hidden = false;
    const canvas = card.querySelector("canvas");
    let lit = null;
    const draw = () => picture && paint(canvas, picture, photo, scale, lit);
    const panels = photo.faces.map((face, k) => {
      const panel = facePanel(`Face ${k + 1}`);
      panel.update(face);
      if (photo.faces.length < 2) return panel;
      const light = (on) => () => { lit = on ? k : null; draw(); };
      for (const event of ["pointerenter", "focus"]) panel.addEventListener(event, light(true));
      for (const event of ["pointerleave", "blur"]) panel.addEventListener(event, light(false));
      return panel;
    });
    if (!panels.length) {
      const note = document.createElement("p");
      note.className = "message";
      note.textContent = "No face was found. Faces that are very small, turned away or covered are missed: try a closer or brighter photo.";
      panels.push(note);
    }
    card.querySelector(".faces").replaceChildren(...panels);
    if (picture) {
      const words = photo.faces.map((face, k) => inWords(face, `face ${k + 1}`)).join("; ");
      canvas.setAttribute("aria-label", `${photo.source}. ${words || "No face."}`);
      draw();
      if (photo.faces.length > 1) this.pictures.add(picture); // it is drawn again when one of them is lit
      else picture.close();
    } else {
      canvas.replaceWith("This browser cannot show this kind of picture; the readings are right.");
    }
    const give = {
      json: () => save(`${stem(photo.source)}.json`, toJson([photo]), "application/json"),
      csv: () => save(`${stem(photo.source)}.csv`, toCsv([photo]), "text/csv"),
      picture: async () => {
        const full = document.createElement("canvas");
        const whole = await decoded(file, photo, 1); // in full size only for as long as it is needed
        if (whole) paint(full, whole, photo, 1, null);
        whole?.close();
        const blob = whole && (await new Promise((done) => full.toBlob(done, "image/jpeg", 0.92)));
        if (blob) save(`${stem(photo.source)}-mien.jpg`, blob);
        else card.querySelector(".summary").textContent = "This browser cannot write so large a picture, or the file is gone.";
      },
    };
    for (const button of card.querySelectorAll("[data-get]")) {
      button.addEventListener("click", give[button.dataset.get]);
      button.setAttribute("aria-label", `${button.textContent} of ${photo.source}`);
      button.hidden = button.dataset.get === "picture" && !picture;
    }
  }
}

const scaled = (photo, scale) => [photo.width, photo.height].map((side) => Math.max(1, Math.round(side * scale)));

/**
 * A photo's picture, or null where the browser cannot show it or leaves it on its side, which the server read upright.
 * One that is upside down, mirrored or square has the right size and cannot be told.
 */
async function decoded(file, photo, scale) {
  const [width, height] = scaled(photo, scale);
  // One side alone: with both, a picture that lies on its side would be squeezed into them.
  const side = width < height ? { resizeHeight: height } : { resizeWidth: width };
  const picture = await createImageBitmap(file, { ...side, resizeQuality: "high" }).catch(() => null);
  if (!picture || Math.max(Math.abs(picture.width - width), Math.abs(picture.height - height)) <= 1) return picture;
  picture.close();
  return null;
}

function paint(canvas, picture, photo, scale, lit) {
  [canvas.width, canvas.height] = scaled(photo, scale);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // what is transparent was read on white
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const unit = Math.max(12, Math.min(canvas.width, canvas.height) / 30);
  drawBoxes(context, photo.faces, (x, y) => [x * scale, y * scale], scale, { unit, lit });
}

/** Wire up dropping, pasting, choosing, and the downloads of all. */
export function startPhotos(announce) {
  const results = new Results(document.getElementById("photo-results"), {
    announce,
    changed: () => {
      const photos = results.all();
      const any = results.container.children.length > 0;
      document.getElementById("photo-tools").hidden = !any;
      document.getElementById("drop").classList.toggle("is-slim", any);
      const faces = photos.reduce((sum, photo) => sum + photo.faces.length, 0);
      document.getElementById("photo-count").textContent = `${plural(photos.length, "photo")}, ${plural(faces, "face")}`;
    },
  });
  const add = (files) => {
    if (!files.length) return;
    location.hash = "#photos";
    results.add([...files]);
  };
  const input = document.getElementById("files");
  input.addEventListener("change", () => { add([...input.files]); input.value = ""; });
  const drop = document.getElementById("drop");
  addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("is-over"); });
  addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("is-over"));
  addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("is-over"); add(event.dataTransfer.files); });
  addEventListener("paste", (event) => add(event.clipboardData.files));
  document.getElementById("all-json").addEventListener("click", () => save("mien.jsonl", toJson(results.all()), "application/jsonl"));
  document.getElementById("all-csv").addEventListener("click", () => save("mien.csv", toCsv(results.all()), "text/csv"));
  document.getElementById("clear").addEventListener("click", () => { results.clear(); document.getElementById("files").focus(); });
}
