// The coefficients: what each policy contributes to the soup, and why.

import { make, number, percent, shape } from "./preference.js";

// The objectives that a policy was trained for; equal weights are named once.
function trained(row) {
  const shares = Object.entries(row).filter(([, weight]) => weight > 0).sort((a, b) => b[1] - a[1]);
  const [first, ...rest] = shares;
  if (rest.length > 1 && rest.every(([, weight]) => Math.abs(weight - rest[0][1]) < 1e-9)) {
    return `${percent(first[1])} ${first[0]}, the others ${percent(rest[0][1])} each`;
  }
  return shares.map(([name, weight]) => `${percent(weight)} ${name}`).join(" + ");
}

// Signed bars; negative ones are hollow.
export function bars(host, policies, coefficients) {
  const widest = Math.max(1, ...Object.values(coefficients).map(Math.abs));
  const grid = make("div", { className: "bars" });
  for (const [slot, value] of Object.entries(coefficients)) {
    const svg = shape("svg", { viewBox: "-100 0 200 16", preserveAspectRatio: "none", "aria-hidden": "true" });
    const length = (Math.abs(value) / widest) * 98;
    svg.append(
      shape("rect", { class: value < 0 ? "minus" : "plus", x: value < 0 ? -length : 0, y: 2, width: length, height: 12, "vector-effect": "non-scaling-stroke" }),
      shape("line", { class: "zero", x1: 0, x2: 0, y1: 0, y2: 16, "vector-effect": "non-scaling-stroke" }),
    );
    const written = number(value, 3);
    grid.append(make("span", {}, slot, make("small", {}, trained(policies[slot]))), svg, make("b", {}, written.startsWith("−") ? written : `+${written}`));
  }
  host.replaceChildren(grid);
}

// The same as arithmetic: coefficients times rows give the preference.
export function sum(policies, coefficients) {
  const vector = (values) => `(${values.map((value) => number(value)).join(",\u00a0")})`;
  const rows = Object.entries(coefficients).map(([slot, value]) => [value, Object.values(policies[slot])]);
  const total = rows[0][1].map((_, i) => rows.reduce((all, [value, row]) => all + value * row[i], 0));
  const terms = rows.map(([value, row], i) => {
    const sign = i === 0 ? (value < 0 ? "−" : "") : value < 0 ? " −\u00a0" : " +\u00a0";
    return `${sign}${Math.abs(value).toFixed(3)}\u00a0×\u00a0${vector(row)}`;
  });
  return `${terms.join("")} =\u00a0${vector(total)}`;
}

export function why(policies, { coefficients, sum: total, l1 }, mapping) {
  const size = `They sum to ${number(total)}; the larger their sizes (${number(l1)} in all), the further the soup goes beyond what was trained.`;
  if (mapping === "curved") {
    return `Policies of one objective are mixed as you ask. What was trained from the even mixture of two is added on top: most in the middle between them, nothing at the ends. ${size}`;
  }
  const mixed = Object.values(policies).some((row) => Object.values(row).filter((weight) => weight > 0).length > 1);
  const negative = Object.values(coefficients).some((value) => value < -5e-4);
  const weight = (slot) => Object.values(policies[slot]).reduce((a, b) => a + b, 0);
  const reached = Object.entries(coefficients).reduce((all, [slot, value]) => all + value * weight(slot), 0);
  const stretched = Math.abs(reached - 1) > 5e-4 ? ", stretched by the scale that validation chose" : "";
  return [
    `Each policy was trained on ${mixed ? "a mix of objectives" : "one objective"}. The coefficients are those with which ${mixed ? "the mixes add" : "these add"} up to exactly what you ask for${stretched}`,
    negative ? ": beyond a policy's own mix, part of another is taken away again, hence the minus. " : ". ",
    size,
  ].join("");
}
