// The measured front and the point of the current preference on it, as planes and as a table.

import { make, shape } from "./preference.js";

export const NAMES = { bone: "Bone Soup", rewarded: "Rewarded Soup", sft: "SFT model", oracle: "Oracle (MORLHF)" };
const WIDTH = 420;
const HEIGHT = 300;
const LEFT = 46;
const BOTTOM = 42;
const TOP = 24;

const number = (value) => (value < 0 ? "−" : "") + Math.abs(value).toFixed(2);

// Every pair of objectives for up to three; more are in the table alone.
const pairs = (n) => (n === 2 ? [[0, 1]] : n === 3 ? [[0, 1], [0, 2], [1, 2]] : []);

export function legend(host, methods) {
  host.replaceChildren(...methods.map((method) => make("li", { className: method }, make("i"), NAMES[method] ?? method)));
}

// here: {method: {mean, low, high}}, what is expected now.
export function planes(host, front, methods, here) {
  const drawn = pairs(front.objectives.length).map((pair) => plane(front, methods, here, pair));
  host.replaceChildren(...drawn);
}

function ticks(low, high) {
  const step = [0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10].find((size) => (high - low) / size <= 6) ?? 20;
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) found.push(at);
  return found;
}

function plane(front, methods, here, [x, y]) {
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "plane", role: "img" });
  svg.setAttribute("aria-label", `Measured ${front.objectives[x]} against ${front.objectives[y]}; the table has the numbers`);
  const points = methods.flatMap((method) => front.methods[method] ?? []);
  const range = (axis) => {
    const values = points.flatMap((point) => [point.low[axis], point.high[axis]]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = 0.06 * (high - low || 1);
    return [low - margin, high + margin];
  };
  const [xs, ys] = [range(x), range(y)];
  const atX = (value) => LEFT + ((value - xs[0]) / (xs[1] - xs[0])) * (WIDTH - LEFT - 8);
  const atY = (value) => HEIGHT - BOTTOM - ((value - ys[0]) / (ys[1] - ys[0])) * (HEIGHT - BOTTOM - TOP);
  const write = (content, attributes) => {
    const node = shape("text", attributes);
    node.textContent = content;
    svg.append(node);
  };
  for (const at of ticks(...xs)) {
    svg.append(shape("line", { class: "rule", x1: atX(at), x2: atX(at), y1: TOP, y2: HEIGHT - BOTTOM }));
    write(number(at), { x: atX(at), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" });
  }
  for (const at of ticks(...ys)) {
    svg.append(shape("line", { class: "rule", x1: LEFT, x2: WIDTH - 8, y1: atY(at), y2: atY(at) }));
    write(number(at), { x: LEFT - 7, y: atY(at) + 4, "text-anchor": "end" });
  }
  write(`${front.objectives[x]} →`, { class: "axis", x: WIDTH - 8, y: HEIGHT - 6, "text-anchor": "end" });
  write(`↑ ${front.objectives[y]}`, { class: "axis", x: LEFT - 7, y: 12, "text-anchor": "middle" });
  for (const method of methods) {
    const group = shape("g", { class: method });
    const own = front.methods[method] ?? [];
    if (front.objectives.length === 2 && own.length > 1) {
      const sorted = [...own].sort((a, b) => a.preference[0] - b.preference[0]);
      group.append(shape("polyline", { class: "path", points: sorted.map((point) => `${atX(point.mean[x])},${atY(point.mean[y])}`).join(" ") }));
    }
    for (const point of own) {
      group.append(shape("circle", { class: "dot faint", r: own.length === 1 ? 5 : 3, cx: atX(point.mean[x]), cy: atY(point.mean[y]) }));
    }
    svg.append(group);
  }
  for (const method of [...methods].reverse()) {
    const point = here[method];
    if (!point) continue;
    const group = shape("g", { class: method });
    const [cx, cy] = [atX(point.mean[x]), atY(point.mean[y])];
    // The interval on top: it is often smaller than the point.
    group.append(
      shape("circle", { class: "here", r: 6, cx, cy, "data-method": method }),
      shape("line", { class: "cross", x1: atX(point.low[x]), x2: atX(point.high[x]), y1: cy, y2: cy }),
      shape("line", { class: "cross", x1: cx, x2: cx, y1: atY(point.low[y]), y2: atY(point.high[y]) }),
    );
    svg.append(group);
  }
  return svg;
}

export function table(host, front, methods, here) {
  const head = make("tr", {}, make("th", { scope: "col" }, "Objective"), ...methods.map((method) => make("th", { scope: "col" }, NAMES[method] ?? method)));
  const rows = front.objectives.map((name, i) => make(
    "tr", {}, make("th", { scope: "row" }, name),
    ...methods.map((method) => {
      const point = here[method];
      if (!point) return make("td", {}, "–");
      return make("td", {}, number(point.mean[i]), " ", make("small", {}, `[${number(point.low[i])}, ${number(point.high[i])}]`));
    }),
  ));
  host.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}

// Signed bars: what each policy contributes, and what it was trained for.
export function bars(host, policies, coefficients) {
  const widest = Math.max(1, ...Object.values(coefficients).map(Math.abs));
  const grid = make("div", { className: "bars" });
  for (const [slot, value] of Object.entries(coefficients)) {
    const svg = shape("svg", { viewBox: "-100 0 200 16", preserveAspectRatio: "none", "aria-hidden": "true" });
    const length = (Math.abs(value) / widest) * 98;
    svg.append(
      shape("rect", { class: value < 0 ? "minus" : "plus", x: value < 0 ? -length : 0, y: 2, width: length, height: 12 }),
      shape("line", { class: "zero", x1: 0, x2: 0, y1: 0, y2: 16, "vector-effect": "non-scaling-stroke" }),
    );
    const trained = Object.entries(policies[slot] ?? {}).map(([name, weight]) => `${Math.round(weight * 100)} % ${name}`).join(" + ");
    grid.append(make("span", {}, slot, make("small", {}, trained)), svg, make("b", {}, (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3)));
  }
  host.replaceChildren(grid);
}
