// Scores of answers by the judges and rewards of the run, if the server has them.

import { make, number } from "./preference.js";
import { json } from "./talk.js";

const UNITS = { judge: "judge", reward: "learned reward" };

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// "0.52", or over several seeds "0.52 ± 0.11", the standard error of the mean.
function written(values) {
  const centre = mean(values);
  if (values.length === 1) return number(centre);
  const variance = values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1);
  return `${number(centre)} ± ${number(Math.sqrt(variance / values.length))}`;
}

export function legend(seeds) {
  const means = seeds > 1 ? `, means over ${seeds} seeds and their standard errors; the answer shown is that of the first seed` : "";
  return ` Below each answer: its scores by the run's rewards, and by its judges if it has any, in standard deviations of the SFT model${means}.`;
}

// For each group of answers to the same preference a line per kind of score, the most trustworthy first.
export async function scored(messages, groups, signal) {
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ messages, answers: groups.flat() });
  const { objectives, scores } = await json("/v1/soup/rewards", { method: "POST", headers, body, signal });
  const kinds = Object.entries(scores);
  let next = 0;
  return groups.map((group) => {
    const [start, end] = [next, (next += group.length)];
    return kinds.map(([unit, rows]) => {
      const parts = objectives.map((name, i) => make("span", {}, `${name} ${written(rows.slice(start, end).map((row) => row[i]))}`));
      const label = kinds.length > 1 ? [make("span", {}, `${UNITS[unit]}:`)] : [];
      return make("p", { className: "note scores", title: UNITS[unit] }, ...label, ...parts);
    });
  });
}
