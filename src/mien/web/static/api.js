// The way to the server: one token, one form of error.

let token = sessionStorage.getItem("mien-token") ?? "";

/** What the server refused, with its hint. */
export class Refused extends Error {
  constructor(status, { code, message, hint }) {
    super(message);
    Object.assign(this, { status, code, hint });
  }
}

let asking = null;

/** Ask for the token, once however many requests wait for it. */
function askToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("ask-token");
    dialog.addEventListener("close", () => {
      token = document.getElementById("token").value;
      sessionStorage.setItem("mien-token", token);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

/** fetch and parse JSON; asks for a token where one is needed, and comes back later where the server is busy. */
export async function call(path, options = {}, patience = 5) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Refused(0, {
      code: "unreachable",
      message: "The server does not answer.",
      hint: "Is mien serve still running? Start it and try again.",
    });
  }
  if (response.ok) return response.json();
  const { error } = await response.json();
  if (response.status === 401) {
    await askToken();
    return call(path, options, patience);
  }
  if (response.status === 503 && patience > 0) {
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((wake) => setTimeout(wake, 1000 * seconds * (1 + Math.random())));
    return call(path, options, patience - 1);
  }
  throw new Refused(response.status, error);
}

/** A web socket to the stream. Browsers set no headers there: the token goes as a subprotocol. */
export function openStream() {
  const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream`;
  const bytes = String.fromCharCode(...new TextEncoder().encode(token));
  const hidden = btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return new WebSocket(url, token ? ["mien", `bearer.${hidden}`] : ["mien"]);
}

/** The model's card and the limits, read once. */
let about = null;
export function card() {
  about ??= call("/v1/models");
  return about;
}
