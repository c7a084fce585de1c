// One answer, written into its card as it comes.

import { scored } from "./rewards.js";
import { Refused, stream } from "./talk.js";

// Tokens, seconds, the first piece, and the rate.
export function speed(tokens, started, first) {
  const now = performance.now();
  const seconds = (now - started) / 1000;
  const begun = first === null ? "" : `, first after ${Math.round(first - started)}\u00a0ms`;
  return `${tokens} tokens in ${seconds.toFixed(2)}\u00a0s${begun}, ${Math.round(tokens / seconds)} tokens/s`;
}

// `rewards`: whether the server can score. Raises only what asks for a token; all else is said in the card.
export async function answer(card, request, rewards, signal) {
  const [out, meta] = [card.querySelector(".answer"), card.querySelector(".meta")];
  const started = performance.now();
  let first = null;
  card.querySelector(".scores")?.remove();
  out.textContent = meta.textContent = "";
  [out.className, meta.className] = ["answer busy", "note meta"];
  out.setAttribute("aria-busy", "true");
  try {
    for await (const piece of stream(request, signal)) {
      if (piece.text) {
        first ??= performance.now();
        out.append(piece.text);
      } else {
        meta.textContent = speed(piece.usage.completion_tokens, started, first) + (piece.reasons[0] === "length" ? ", cut at the limit" : "");
        if (rewards) meta.before(...(await scored(request.messages, [[out.textContent]], signal)));
      }
    }
  } catch (error) {
    // The next answer may have begun in this card already.
    if (signal.aborted && signal.reason === "anew") return;
    if (signal.aborted) meta.textContent = "stopped";
    else if (error.status === 401) throw error;
    else {
      // What has come stays.
      const place = out.textContent ? meta : out;
      place.textContent = error instanceof Refused ? error.message : "The answer broke off: the connection was lost.";
      place.classList.add("wrong");
    }
  } finally {
    if (signal.reason !== "anew") {
      out.classList.remove("busy");
      out.removeAttribute("aria-busy");
    }
  }
}
