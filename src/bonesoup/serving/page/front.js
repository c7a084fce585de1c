// The measured front and the point of the current preference on it, as planes and as a table.

import { make, number, shape, weighed } from "./preference.js";
import { named } from "./state.js";

const [LEFT, RIGHT, TOP, BOTTOM] = [46, 8, 24, 42];

// Every pair of up to three objectives; with more there is only the table.
const pairs = (n) => (n === 2 ? [[0, 1]] : n === 3 ? [[0, 1], [0, 2], [1, 2]] : []);

export function legend(host, kinds) {
  host.replaceChildren(...kinds.map((kind) => make("li", { className: kind }, make("i"), named(kind))));
}

// joined: methods whose points lie on one line; here: {kind: {mean, low, high}}, the scores to expect now.
export function planes(host, front, joined, here) {
  const boxes = pairs(front.objectives.length).map(() => make("div"));
  host.replaceChildren(...boxes);
  // Drawn at the width of its box, so that letters keep their size.
  pairs(front.objectives.length).forEach((pair, i) => boxes[i].append(plane(front, joined, here, pair, boxes[i].clientWidth)));
}

function ticks(low, high) {
  const step = [0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10].find((size) => (high - low) / size <= 6) ?? 20;
  const places = [];
  for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) places.push(at);
  return places;
}

function plane(front, joined, here, [x, y], width) {
  const height = Math.round(Math.min(320, Math.max(220, width * 0.68)));
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, class: "plane", role: "img" });
  svg.setAttribute("aria-label", `Measured ${front.objectives[x]} against ${front.objectives[y]}; the table has the numbers`);
  // The first method lies above the other curves; points of methods that are not served above all.
  const methods = Object.keys(front.methods).sort((a, b) => joined.indexOf(b) - joined.indexOf(a));
  const points = methods.flatMap((method) => front.methods[method]);
  const range = (axis) => {
    const values = points.flatMap((point) => [point.low[axis], point.high[axis]]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = 0.06 * (high - low || 1);
    return [low - margin, high + margin];
  };
  const [xs, ys] = [range(x), range(y)];
  const atX = (value) => LEFT + ((value - xs[0]) / (xs[1] - xs[0])) * (width - LEFT - RIGHT);
  const atY = (value) => height - BOTTOM - ((value - ys[0]) / (ys[1] - ys[0])) * (height - BOTTOM - TOP);
  const write = (content, attributes) => {
    const node = shape("text", attributes);
    node.textContent = content;
    svg.append(node);
  };
  for (const at of ticks(...xs)) {
    svg.append(shape("line", { class: "rule", x1: atX(at), x2: atX(at), y1: TOP, y2: height - BOTTOM }));
    write(number(at), { x: atX(at), y: height - BOTTOM + 16, "text-anchor": "middle" });
  }
  for (const at of ticks(...ys)) {
    svg.append(shape("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: atY(at), y2: atY(at) }));
    write(number(at), { x: LEFT - 7, y: atY(at) + 4, "text-anchor": "end" });
  }
  write(`${front.objectives[x]} →`, { class: "axis", x: width - RIGHT, y: height - 6, "text-anchor": "end" });
  write(`↑ ${front.objectives[y]}`, { class: "axis", x: 0, y: 12 });
  for (const method of methods) {
    const group = shape("g", { class: method });
    const measured = front.methods[method];
    if (front.objectives.length === 2 && measured.length > 1 && joined.includes(method)) {
      const sorted = [...measured].sort((a, b) => a.preference[0] - b.preference[0]);
      group.append(shape("polyline", { class: "path", points: sorted.map((point) => `${atX(point.mean[x])},${atY(point.mean[y])}`).join(" ") }));
    }
    for (const point of measured) {
      const dot = shape("circle", { class: "dot", r: joined.includes(method) && measured.length > 1 ? 3 : 4.5, cx: atX(point.mean[x]), cy: atY(point.mean[y]) });
      const title = shape("title");
      const asked = measured.length > 1 ? `, ${weighed(front.objectives, point.preference)}` : "";
      title.textContent = `${named(method)}${asked}: ${number(point.mean[x])}, ${number(point.mean[y])}`;
      dot.append(title);
      group.append(dot);
    }
    svg.append(group);
  }
  for (const [kind, point] of Object.entries(here).reverse()) {
    if (!point) continue;
    const group = shape("g", { class: kind });
    const [cx, cy] = [atX(point.mean[x]), atY(point.mean[y])];
    // The interval on top: it is often smaller than the point.
    group.append(
      shape("circle", { class: "here", r: 6, cx, cy, "data-method": kind }),
      shape("line", { class: "cross", x1: atX(point.low[x]), x2: atX(point.high[x]), y1: cy, y2: cy }),
      shape("line", { class: "cross", x1: cx, x2: cx, y1: atY(point.low[y]), y2: atY(point.high[y]) }),
    );
    svg.append(group);
  }
  return svg;
}

export function table(host, front, here) {
  const kinds = Object.keys(here);
  const head = make("tr", {}, make("th", { scope: "col" }, "Objective"), ...kinds.map((kind) => make("th", { scope: "col" }, named(kind))));
  const rows = front.objectives.map((name, i) => make(
    "tr", {}, make("th", { scope: "row" }, name),
    ...kinds.map((kind) => {
      const point = here[kind];
      if (!point) return make("td", {}, "–");
      return make("td", {}, number(point.mean[i]), " ", make("small", {}, `[${number(point.low[i])}, ${number(point.high[i])}]`));
    }),
  ));
  host.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}
