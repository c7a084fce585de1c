// Scores of answers by the rewards of the run, where the server has them.

import { make, number } from "./preference.js";
import { json } from "./talk.js";

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// "0.52", or over several seeds "0.52 ± 0.11", the standard error of the mean.
function written(values) {
  const centre = mean(values);
  if (values.length === 1) return number(centre);
  const variance = values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1);
  return `${number(centre)} ± ${number(Math.sqrt(variance / values.length))}`;
}

// Says what the scores below the answers are.
export const told = (seeds) => ` Below each answer: its scores by the rewards of the run, in standard deviations of the SFT model${seeds > 1 ? `, means over ${seeds} seeds and their standard errors; the first seed's answer is shown` : ""}.`;

// One note for each group of answers to the same preference: what the most trustworthy unit says of each objective.
export async function scored(messages, groups, signal) {
  const headers = { "Content-Type": "application/json" };
  const answers = groups.flat();
  const body = JSON.stringify({ messages, answers });
  const { objectives, scores } = await json("/v1/soup/rewards", { method: "POST", headers, body, signal });
  const [unit, rows] = Object.entries(scores)[0];
  let next = 0;
  return groups.map((group) => {
    const own = rows.slice(next, (next += group.length));
    const parts = objectives.map((name, i) => make("span", {}, `${name} ${written(own.map((row) => row[i]))}`));
    const title = `${unit} in standard deviations of the SFT model`;
    return make("p", { className: "note scores", title }, ...parts);
  });
}
