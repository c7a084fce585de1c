// The view in the address, so that it can be shared.

import { parse, text } from "./preference.js";
import { $, state } from "./state.js";

export const FIELDS = ["prompt", "system", "points", "seeds", "seed", "temperature", "tokens"];
// Browsers refuse more than a hundred changes of the address in half a minute.
const PAUSE = 350;
let timer;
let written = 0;

export function view() {
  const { soup, weights, second, beside } = state;
  const kept = new URLSearchParams({ at: text(soup.objectives, weights), beside });
  if (beside === "second") kept.set("second", text(soup.objectives, second));
  for (const field of FIELDS) if ($(field).value) kept.set(field, $(field).value);
  return `${kept}`;
}

export function remember() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    written = performance.now();
    history.replaceState(null, "", `#${view()}`);
  }, Math.max(0, written + PAUSE - performance.now()));
}

// Sets state and fields from the address; what it does not name keeps its value or takes the soup's default.
export function recall() {
  const { soup } = state;
  const kept = new URLSearchParams(location.hash.slice(1));
  const usual = soup.objectives.map((name) => soup.default[name]);
  state.weights = parse(soup.objectives, kept.get("at") ?? "") ?? usual;
  state.second = parse(soup.objectives, kept.get("second") ?? "") ?? usual;
  const [first, ...others] = [...$("beside").options].map((option) => option.value);
  state.beside = others.includes(kept.get("beside")) ? kept.get("beside") : first;
  $("beside").value = state.beside;
  for (const field of FIELDS) if (kept.has(field)) $(field).value = kept.get(field);
  for (const list of [$("points"), $("seeds")]) {
    if (![...list.options].some((option) => option.value === list.value)) list.selectedIndex = 0;
  }
}
