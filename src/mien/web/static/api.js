// The way to the server: one token, one form of error.

/** What this tab remembers of the token, where the browser lets it: site data may be blocked. */
function remembered(given) {
  try {
    if (given !== undefined) sessionStorage.setItem("mien-token", given);
    return sessionStorage.getItem("mien-token") ?? "";
  } catch {
    return "";
  }
}

let token = remembered();

/** What the server refused, with its hint. */
export class Refused extends Error {
  constructor(status, { code, message, hint }) {
    super(message);
    Object.assign(this, { status, code, hint });
  }
}

let asking = null;

/**
 * Ask for the token, once however many requests wait for it.
 * @param {boolean} wrong Whether the server refused the one it was shown.
 * @returns {Promise<boolean>} Whether one was given.
 */
function askToken(wrong) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("ask-token");
    const field = document.getElementById("token");
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "given"; // not so where it was left with Escape
      keep(given ? field.value : "");
      field.value = "";
      asking = null;
      resolve(given);
    }, { once: true });
    keep("");
    dialog.returnValue = "";
    dialog.showModal();
    const trouble = document.getElementById("token-wrong");
    trouble.textContent = wrong ? "The server refused this token. Give another one." : "";
    trouble.hidden = !wrong;
  });
  return asking;
}

function keep(given) {
  token = given;
  remembered(given);
}

/** An answer's JSON, which something between this page and the server may have replaced. */
async function parsed(response) {
  const body = await response.json().catch(() => null);
  if (body && (response.ok || body.error)) return body;
  throw new Refused(response.status, {
    code: "foreign_answer",
    message: `Something other than mien serve answered, with status ${response.status}.`,
    hint: "If there is a proxy before the server, see what it says about this.",
  });
}

/** fetch and parse JSON; asks for a token where one is needed, and comes back later where the server is busy. */
export async function call(path, options = {}, patience = 5) {
  const shown = token;
  const headers = { ...options.headers, ...(shown && { Authorization: `Bearer ${shown}` }) };
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
  const body = await parsed(response);
  if (response.ok) return body;
  if (response.status === 401) {
    // Another request may have got one in the meantime.
    if (shown !== token || await askToken(Boolean(shown))) return call(path, options, patience);
    throw new Refused(401, {
      code: "unauthorized",
      message: "This server asks for a token, and none was given.",
      hint: "Try again with the token that mien serve was started with.",
    });
  }
  if (response.status === 503 && patience > 0) {
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((wake) => setTimeout(wake, 1000 * seconds * (1 + Math.random())));
    return call(path, options, patience - 1);
  }
  throw new Refused(response.status, body.error);
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
  about ??= call("/v1/models").catch((error) => {
    about = null; // the next one asks again
    throw error;
  });
  return about;
}
