// One answer, written into its card as it comes.

import { Refused, stream } from "./talk.js";

// Raises only what asks for a token; all else is said in the card.
export async function answer(card, request, signal) {
  const [out, meta] = [card.querySelector(".answer"), card.querySelector(".meta")];
  const started = performance.now();
  out.textContent = meta.textContent = "";
  [out.className, meta.className] = ["answer busy", "note meta"];
  out.setAttribute("aria-busy", "true");
  try {
    for await (const piece of stream(request, signal)) {
      if (typeof piece === "string") out.append(piece);
      else meta.textContent = `${piece.usage.completion_tokens} tokens in ${((performance.now() - started) / 1000).toFixed(2)} s${piece.reason === "length" ? ", cut at the limit" : ""}`;
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
