// The camera: frames out, readings in. Two frames at most are on their way; a slow server is sent fewer.

import { call, openStream } from "./api.js";
import { COLOURS, drawBoxes, facePanel, inWords } from "./faces.js";
import { Results } from "./photos.js";
import { Timelines } from "./timeline.js";

const LONGEST = 640; // pixels of a sent frame
const QUALITY = 0.8;
const IN_FLIGHT = 2;
const KEPT = 1500; // milliseconds for which a panel stays after its face left
const TOLD = 4000; // milliseconds between two announcements

const PROBLEMS = {
  NotAllowedError: "The browser may not use the camera. Click the camera sign in its address bar, allow the camera for this page, and press Start again.",
  NotFoundError: "There is no camera. Connect one and press Start again, or read photos instead.",
  OverconstrainedError: "There is no camera. Connect one and press Start again, or read photos instead.",
  NotReadableError: "The camera is there but does not answer: another program may be using it. Close that program and press Start again.",
};
const INSECURE = "Browsers give the camera only to pages from https:// or from this machine itself. Open this page as http://127.0.0.1 on the machine that runs mien serve, or put the server behind https.";

const $ = (id) => document.getElementById(id);

/** Wire up the camera's view. */
export function startCamera(announce) {
  const video = $("video");
  const overlay = $("overlay");
  const small = document.createElement("canvas");
  const timelines = new Timelines($("timeline-rows"));
  const snapshots = new Results($("snapshots"), { announce });
  let session = null; // what runs now

  $("legend").append(...Object.entries(COLOURS).map(([expression, colour]) => {
    const item = document.createElement("li");
    item.textContent = expression;
    item.style.setProperty("--colour", colour);
    return item;
  }));

  const nameOf = (face, k) => `Face ${face.track ?? k + 1}`;
  const keyOf = (face, k) => face.track ?? k + 1;
  const say = (text) => { $("stage-text").textContent = text; $("stage-text").hidden = !text; };
  const complain = (text) => { $("camera-problem").textContent = text; $("camera-problem").hidden = !text; };

  async function start() {
    complain("");
    if (!navigator.mediaDevices) return complain(INSECURE);
    const mine = { told: 0, words: "" };
    session = mine;
    $("start").textContent = "Stop";
    say("Waiting for the camera…");
    try {
      await call("/v1/models"); // asks for a token where one is needed, and tells if the server is gone
      mine.media = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, height: { ideal: 720 } } });
      if (session !== mine) return mine.media.getTracks().forEach((track) => track.stop());
      mine.media.getVideoTracks()[0].addEventListener("ended", () => { stop(); complain("The camera was disconnected."); });
      video.srcObject = mine.media;
      await video.play();
    } catch (error) {
      if (session !== mine) return; // Stop was pressed, which interrupts what is waited for
      stop();
      return complain(PROBLEMS[error.name] ?? `${error.message} ${error.hint ?? ""}`);
    }
    if (session === mine) open(mine);
  }

  /** Open a stream: the first one, or another after frames paused for longer than the server keeps one open. */
  function open(mine) {
    say("Opening the stream…");
    Object.assign(mine, { sent: new Map(), count: 0, answered: -1, times: [], panels: new Map() }); // numbers begin anew
    $("live-faces").replaceChildren();
    const socket = openStream();
    mine.socket = socket;
    socket.addEventListener("open", () => {
      say("");
      timelines.clear();
      $("timelines").hidden = false;
      $("snapshot").disabled = false;
      announce("The camera is on.");
      send(mine);
    });
    socket.addEventListener("message", ({ data }) => receive(mine, JSON.parse(data)));
    socket.addEventListener("close", ({ code, reason }) => {
      if (session !== mine || mine.socket !== socket) return;
      if (code === 1000 && mine.busy) return say("Paused: the camera gives no frames."); // the next one opens another
      stop();
      complain(`The stream ended${reason ? `: ${reason}` : ""}. The server may have stopped, or too many streams are open. Press Start to try again.`);
    });
  }

  function stop() {
    const was = session;
    session = null;
    was?.media?.getTracks().forEach((track) => track.stop());
    was?.socket?.close();
    video.srcObject = null;
    overlay.getContext("2d").clearRect(0, 0, overlay.width, overlay.height);
    overlay.setAttribute("aria-label", "The camera is off.");
    $("live-faces").replaceChildren();
    $("start").textContent = "Start";
    $("snapshot").disabled = true;
    for (const id of ["fps", "latency", "dropped"]) $(id).textContent = "–";
    say("The camera is off.");
  }

  /** Draw the newest picture of the camera on `canvas`, its longer side at most so many pixels. */
  function grab(canvas, longest) {
    const scale = Math.min(1, longest / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  }

  function send(mine) {
    if (session !== mine) return;
    if (mine.busy || mine.count - 1 - mine.answered >= IN_FLIGHT) return; // the next answer calls again
    mine.busy = true;
    video.requestVideoFrameCallback(() => {
      if (session !== mine) return;
      if (mine.socket.readyState !== WebSocket.OPEN) {
        mine.busy = false;
        return open(mine);
      }
      const taken = performance.now();
      grab(small, LONGEST);
      small.toBlob((blob) => {
        mine.busy = false;
        if (session !== mine) return;
        if (mine.socket.readyState !== WebSocket.OPEN) return send(mine);
        mine.socket.send(blob);
        mine.sent.set(mine.count, taken);
        mine.count += 1;
        send(mine);
      }, "image/jpeg", QUALITY);
    });
  }

  function receive(mine, answer) {
    if (session !== mine) return;
    mine.answered = answer.frame;
    const now = performance.now();
    const latency = now - mine.sent.get(answer.frame);
    for (const number of [...mine.sent.keys()]) if (number <= answer.frame) mine.sent.delete(number);
    mine.times.push(now);
    while (mine.times[0] < now - 2000) mine.times.shift();
    const span = (now - mine.times[0]) / 1000;
    if (span > 0.5) $("fps").textContent = ((mine.times.length - 1) / span).toFixed(1);
    $("latency").textContent = `${Math.round(latency)} ms`;
    $("dropped").textContent = answer.dropped;
    complain(answer.error?.message ?? "");
    if (!answer.error) show(mine, answer, now);
    send(mine);
  }

  function show(mine, answer, now) {
    const { faces } = answer;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(overlay.clientWidth * ratio), Math.round(overlay.clientHeight * ratio)];
    if (overlay.width !== width || overlay.height !== height) Object.assign(overlay, { width, height });
    const context = overlay.getContext("2d");
    context.clearRect(0, 0, width, height);
    const scale = Math.min(width / answer.width, height / answer.height); // as object-fit: contain does
    const [left, top] = [(width - answer.width * scale) / 2, (height - answer.height * scale) / 2];
    const place = (x, y) => [left + ($("mirror").checked ? answer.width - x : x) * scale, top + y * scale];
    drawBoxes(context, faces, place, scale, { unit: 14 * ratio, name: nameOf });

    faces.forEach((face, k) => {
      const key = keyOf(face, k);
      if (!mine.panels.has(key)) {
        const panel = facePanel(nameOf(face, k));
        mine.panels.set(key, panel);
        $("live-faces").append(panel);
      }
      const panel = mine.panels.get(key);
      panel.update(face);
      panel.seen = now;
      panel.classList.remove("is-gone");
    });
    for (const [key, panel] of mine.panels) {
      if (panel.seen < now) panel.classList.add("is-gone");
      if (panel.seen < now - KEPT) { panel.remove(); mine.panels.delete(key); }
    }
    timelines.add(now / 1000, faces.map((face, k) => ({ key: keyOf(face, k), name: nameOf(face, k), face })));
    const words = faces.map((face, k) => `${nameOf(face, k)} ${face.uncertain ? "uncertain" : face.expression}`).join(", ") || "No face";
    overlay.setAttribute("aria-label", `Camera. ${faces.map((face, k) => inWords(face, nameOf(face, k))).join("; ") || "No face."}`);
    if (words !== mine.words && now - mine.told > TOLD) {
      announce(words);
      Object.assign(mine, { told: now, words });
    }
  }

  function snapshot() {
    const full = document.createElement("canvas");
    grab(full, Infinity);
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
    full.toBlob((blob) => snapshots.add([new File([blob], `snapshot-${time}.jpg`, { type: "image/jpeg" })]), "image/jpeg", 0.92);
  }

  const mirror = () => video.classList.toggle("is-mirrored", $("mirror").checked);
  mirror();
  $("mirror").addEventListener("change", mirror);
  $("start").addEventListener("click", () => (session ? stop() : start()));
  $("snapshot").addEventListener("click", snapshot);
  return { stop: () => session && stop() };
}
