// One answer, written into its card as it comes.

import { markdown } from "./markdown.js";
import { scored } from "./rewards.js";
import { Refused, stream } from "./talk.js";

// The signal's reason if another answer takes the place of this one.
export const SUPERSEDED = "superseded";

// Tokens, seconds, the time to the first piece, and the rate.
export function speed(tokens, started, first) {
  const now = performance.now();
  const seconds = (now - started) / 1000;
  const begun = first === null ? "" : `, first after ${Math.round(first - started)}\u00a0ms`;
  return `${tokens} tokens in ${seconds.toFixed(2)}\u00a0s${begun}, ${Math.round(tokens / seconds)} tokens/s`;
}

// Removes the answer and all that was said of it.
export function empty(card) {
  for (const part of ["answer", "meta"]) {
    card.querySelector(`.${part}`).textContent = "";
    card.querySelector(`.${part}`).classList.remove("wrong", "busy");
  }
  for (const old of card.querySelectorAll(".scores")) old.remove();
  card.querySelector(".reply").hidden = true;
}

// Returns the text; null if it did not come to its end. `rewards`: whether the server can score.
// Raises only an error that asks for a token; the card tells of all others.
export async function answer(card, request, rewards, signal) {
  const [out, meta] = [card.querySelector(".answer"), card.querySelector(".meta")];
  const started = performance.now();
  let first = null;
  let text = "";
  empty(card);
  out.classList.add("busy");
  out.setAttribute("aria-busy", "true");
  try {
    for await (const piece of stream(request, signal)) {
      if (piece.text) {
        first ??= performance.now();
        text += piece.text;
        out.replaceChildren(...markdown(text));
      } else {
        meta.textContent = speed(piece.usage.completion_tokens, started, first) + (piece.reasons[0] === "length" ? ", cut at the limit" : "");
        if (rewards) meta.before(...(await scored(request.messages, [[text]], signal))[0]);
      }
    }
    return text;
  } catch (error) {
    // The next answer may have begun in this card already.
    if (signal.aborted && signal.reason === SUPERSEDED) return null;
    if (signal.aborted) meta.textContent = "stopped";
    else if (error.status === 401) throw error;
    else {
      // The part that came stays.
      const place = text ? meta : out;
      place.textContent = error instanceof Refused ? error.message : "The answer broke off: the connection was lost.";
      place.classList.add("wrong");
    }
    return null;
  } finally {
    if (signal.reason !== SUPERSEDED) {
      out.classList.remove("busy");
      out.removeAttribute("aria-busy");
    }
  }
}
