// A preference by outcome: lower bounds on mean scores, and the objective to raise as far as they allow; the server
// chooses it.

import { make, weighed } from "./preference.js";
import { json, Refused } from "./talk.js";

// Limits are rounded down: what is shown must be true.
const atLeast = (value) => `${Math.floor(value * 100) / 100}`.replace("-", "−");

// Fills `host`. `chosen(weights)` is called with the preference that meets the bounds, `failed` with an error that the
// note cannot tell of.
export function layOut(host, soup, chosen, failed) {
  const points = soup.front?.methods[soup.methods[0]] ?? [];
  host.hidden = !points[0]?.floor;
  if (host.hidden) return;
  const [form, note] = [host.querySelector("form"), host.querySelector(".note")];
  const maximize = make("select", {}, ...soup.objectives.map((name) => make("option", {}, name)));
  const bounds = soup.objectives.map((name, i) => {
    const most = Math.max(...points.map((point) => point.floor[i] ?? -Infinity));
    const input = make("input", { type: "number", step: "any", placeholder: Number.isFinite(most) ? `up to ${atLeast(most)}` : "" });
    return { name, input, label: make("label", {}, `${name} at least `, input) };
  });
  const layBounds = () => bounds.forEach(({ name, label }) => { label.hidden = name === maximize.value; });
  maximize.addEventListener("change", layBounds);
  form.append(make("label", {}, "As much as possible ", maximize), ...bounds.map(({ label }) => label), make("button", {}, "Find"));
  layBounds();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const asked = bounds.filter(({ name, input }) => name !== maximize.value && input.value !== "").map(({ name, input }) => `${name}>=${input.value}`);
    const preference = [...asked, `maximize=${maximize.value}`].join(",");
    note.classList.remove("wrong");
    try {
      const answer = await json(`/v1/soup/coefficients?${new URLSearchParams({ preference })}`);
      const weights = soup.objectives.map((name) => answer.preference[name]);
      const { floor, confidence, prompts } = answer.outcome;
      const limits = soup.objectives.filter((name) => floor[name] !== null).map((name) => `${name} at least ${atLeast(floor[name])}`);
      note.textContent = `${weighed(soup.objectives, weights)}: on average over prompts ${limits.join(", ")}, with ${Math.round(confidence * 100)} % confidence (${prompts} prompts).`;
      chosen(weights);
    } catch (error) {
      if (!(error instanceof Refused) || error.status === 401) {
        failed(error);
        return;
      }
      note.textContent = error.message;
      note.classList.add("wrong");
    }
  });
}
