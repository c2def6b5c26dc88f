// Starts the page: views, theme, announcements.

import { startCamera } from "./camera.js";
import { startPhotos } from "./photos.js";
import { startScores } from "./scores.js";

const VIEWS = ["photos", "camera", "scores"];
const LOCAL = ["127.0.0.1", "localhost", "[::1]"];

const announcer = document.getElementById("announcer");
const announce = (text) => { announcer.textContent = text; };

function startTheme() {
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const now = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const tell = () => button.setAttribute("aria-pressed", String(now() === "dark"));
  button.addEventListener("click", () => {
    root.dataset.theme = now() === "dark" ? "light" : "dark";
    tell();
    try {
      localStorage.setItem("mien-theme", root.dataset.theme);
    } catch {
      // Site data are blocked: it holds until the page is left.
    }
  });
  dark.addEventListener("change", tell);
  tell();
}

/** Asks for the scores now, and once more whenever they are looked at, until they are there. */
let scores = Promise.resolve(false);
function tellScores() {
  scores = scores.then((told) => told || startScores());
}

function startViews(camera) {
  const show = () => {
    const name = VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "photos";
    for (const view of VIEWS) document.getElementById(`view-${view}`).hidden = view !== name;
    for (const link of document.querySelectorAll(".views a")) {
      if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (name !== "camera") camera.stop();
    if (name === "scores") tellScores();
    document.title = `mien · ${document.querySelector(`#view-${name} h1`).textContent}`;
  };
  addEventListener("hashchange", show);
  show();
}

/** The skip link moves the focus alone: its #main would be taken for a view. */
function startSkipping() {
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("main").focus();
  });
}

for (const place of document.querySelectorAll("[data-privacy]")) {
  place.textContent = LOCAL.includes(location.hostname)
    ? "Nothing leaves this machine, and nothing is stored."
    : `Pictures go to the server at ${location.hostname} and nowhere else; it stores nothing.`;
}
startTheme();
startSkipping();
startPhotos(announce);
startViews(startCamera(announce));
if (location.hash !== "#scores") tellScores(); // else the view has asked already
