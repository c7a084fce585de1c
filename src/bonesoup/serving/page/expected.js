// What the server says of the preference at hand: coefficients, and the scores measured there.

import { legend, planes, table } from "./front.js";
import { bars, sum, why } from "./mix.js";
import { failed, tell } from "./notice.js";
import { make, text, weighed } from "./preference.js";
import { $, state } from "./state.js";
import { json } from "./talk.js";

const UNITS = { gold: "True score", judge: "Judge's score" };
let draw = () => {};
let looking = false;
let stale = false;

export function layOut() {
  if (state.soup.front) {
    $("front").append(make("ul", { className: "legend" }), make("div", { className: "planes" }));
  } else {
    $("front").append(make("p", { className: "note" }, "This soup has not been measured: nothing is known of its scores."));
    $("expected").parentElement.hidden = true;
    $("unit").hidden = true;
  }
}

// One request at a time: movements in the meantime are followed by one more.
export async function look() {
  stale = true;
  if (looking) return;
  looking = true;
  while (stale) {
    stale = false;
    try {
      await show();
      tell("");
    } catch (error) {
      failed(error);
    }
  }
  looking = false;
}

// The planes again, at the width the page has now.
export const redraw = () => draw();

const meaning = (model, weights) =>
  json(`/v1/soup/coefficients?${new URLSearchParams({ model, preference: text(state.soup.objectives, weights) })}`);

async function show() {
  const { soup, weights, second, beside } = state;
  const asks = soup.methods.map((method) => [method, method, weights]);
  if (beside === "second") asks.splice(1, 0, ["second", soup.methods[0], second]);
  const meanings = await Promise.all(asks.map(([, method, at]) => meaning(soup.models[method], at)));
  const [here] = meanings;
  bars($("mix"), soup.policies, here.coefficients);
  // Corrections come on top: the rows of a curved soup do not add up to the preference.
  const equation = soup.objectives.length < 4 && soup.mapping !== "curved";
  $("sum").textContent = equation ? sum(soup.policies, here.coefficients) : "";
  $("why").textContent = why(soup.policies, here, soup.mapping);
  if (soup.front) front(soup, Object.fromEntries(asks.map(([kind], i) => [kind, meanings[i].expected])));
  document.body.dataset.shown = text(soup.objectives, weights);
}

// here: {kind: {mean, low, high}}, the scores to expect now.
function front(soup, here) {
  legend($("front").firstElementChild, [...new Set([...Object.keys(here), ...Object.keys(soup.front.methods)])]);
  draw = () => planes($("front").lastElementChild, soup.front, soup.methods, here);
  draw();
  table($("expected"), soup.front, here);
  const unit = UNITS[soup.front.unit] ?? "Learned reward";
  const confidence = Math.round(soup.front.confidence * 100);
  $("unit").textContent = `${unit} in standard deviations of the SFT model, ${confidence} % interval over test prompts${origin(soup, here[soup.methods[0]])}.`;
}

// Says so if the numbers were not measured at this very preference.
function origin(soup, point) {
  if (point?.from === "interpolated") return "; between two measured points";
  if (point?.from !== "nearest") return "";
  const measured = soup.front.methods[soup.methods[0]].find(({ mean }) => mean.every((value, i) => value === point.mean[i]));
  return `; at the nearest measured point, ${weighed(soup.objectives, measured.preference)}`;
}
