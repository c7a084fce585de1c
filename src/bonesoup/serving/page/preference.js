// Weights over the objectives: their text, and the controls that keep their sum at 1. Also how the page makes elements
// and writes numbers.

// "helpful=0.7,harmless=0.3": four digits, and the largest weight takes what rounding leaves.
export function text(objectives, weights) {
  const rounded = weights.map((weight) => Math.round(weight * 1e4));
  const largest = rounded.indexOf(Math.max(...rounded));
  rounded[largest] += 10000 - rounded.reduce((a, b) => a + b, 0);
  return objectives.map((name, i) => `${name}=${rounded[i] / 1e4}`).join(",");
}

// {helpful: 0.7, harmless: 0.3}, with the digits of `text`.
export function mapping(objectives, weights) {
  const pairs = text(objectives, weights).split(",").map((part) => part.split("="));
  return Object.fromEntries(pairs.map(([name, value]) => [name, Number(value)]));
}

export function parse(objectives, given) {
  const named = Object.fromEntries(given.split(",").map((part) => part.split("=")));
  const weights = objectives.map((name) => Number(named[name]));
  const valid = weights.every((weight) => weight >= 0) && Math.abs(weights.reduce((a, b) => a + b, 0) - 1) < 1e-3;
  return valid ? weights : null;
}

// One weight moved by hand; the others share the rest in the proportions they had.
export function moved(weights, place, value) {
  const rest = 1 - weights[place];
  return weights.map((weight, i) => {
    if (i === place) return value;
    return rest > 1e-9 ? (weight / rest) * (1 - value) : (1 - value) / (weights.length - 1);
  });
}

const number = (value, digits = 2) => (Number(value.toFixed(digits)) < 0 ? "−" : "") + Math.abs(value).toFixed(digits);
const percent = (weight) => `${Math.round(weight * 1000) / 10}\u00a0%`;
const whole = (weight) => `${Math.round(weight * 100)}\u00a0%`;
const weighed = (objectives, weights) => objectives.map((name, i) => `${name} ${percent(weights[i])}`).join(", ");

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function shape(tag, attributes = {}) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

// A control in `host`: a slider for two objectives, a triangle and sliders for three, sliders for more.
// Returns show(weights), which moves it without calling `changed`.
export function control(host, objectives, label, changed) {
  let current = objectives.map(() => 1 / objectives.length);
  const parts = objectives.length === 2 ? [slider] : objectives.length === 3 ? [triangle, shares] : [shares];
  const set = (weights) => {
    show(weights);
    changed(weights);
  };
  const shown = parts.map((part) => part(host, objectives, label, () => current, set));
  function show(weights) {
    current = weights;
    for (const update of shown) update(weights);
  }
  return show;
}

function slider(host, objectives, label, current, set) {
  const range = make("input", { type: "range", min: 0, max: 100, step: 1 });
  range.setAttribute("aria-label", `${label}: from ${objectives[1]} to ${objectives[0]}`);
  const ends = objectives.map(() => make("b"));
  // The right end stands for the first objective, as on the x axis of the front.
  host.append(make("div", { className: "ends" }, make("span", {}, objectives[1], ends[1]), make("span", {}, objectives[0], ends[0])), range);
  range.addEventListener("input", () => set([range.value / 100, 1 - range.value / 100]));
  return (weights) => {
    range.value = Math.round(weights[0] * 100);
    ends.forEach((end, i) => { end.textContent = whole(weights[i]); });
    range.setAttribute("aria-valuetext", weighed(objectives, weights));
  };
}

function shares(host, objectives, label, current, set) {
  const rows = objectives.map((name, i) => {
    const range = make("input", { type: "range", min: 0, max: 100, step: 1 });
    range.setAttribute("aria-label", `${label}: ${name}`);
    range.addEventListener("input", () => set(moved(current(), i, range.value / 100)));
    return { range, out: make("output") };
  });
  const grid = make("div", { className: "shares" });
  rows.forEach((row, i) => grid.append(make("span", {}, objectives[i]), row.range, row.out));
  host.append(grid);
  return (weights) => rows.forEach((row, i) => {
    row.range.value = Math.round(weights[i] * 100);
    row.out.textContent = whole(weights[i]);
  });
}

// Corners of the triangle: the first objective right, the second left, the third on top.
const CORNERS = [[280, 252], [20, 252], [150, 27]];

export function place(weights) {
  return [0, 1].map((axis) => weights.reduce((sum, weight, i) => sum + weight * CORNERS[i][axis], 0));
}

function triangle(host, objectives, label, current, set) {
  const pad = shape("svg", { viewBox: "0 0 300 280", class: "pad", tabindex: 0, role: "slider" });
  pad.setAttribute("aria-label", `${label}: left and right between ${objectives[1]} and ${objectives[0]}, up to ${objectives[2]}`);
  pad.setAttribute("aria-valuemin", 0);
  pad.setAttribute("aria-valuemax", 100);
  pad.append(shape("polygon", { points: CORNERS.map((corner) => corner.join()).join(" ") }));
  for (const share of [0.25, 0.5, 0.75]) {
    for (let i = 0; i < 3; i += 1) {
      const ends = [1, 2].map((step) => place(moved([0, 1, 2].map((j) => Number(j === (i + step) % 3)), i, share)));
      pad.append(shape("line", { x1: ends[0][0], y1: ends[0][1], x2: ends[1][0], y2: ends[1][1] }));
    }
  }
  const labels = [["end", 284, 274], ["start", 16, 274], ["middle", 150, 16]];
  labels.forEach(([anchor, x, y], i) => {
    const name = shape("text", { "text-anchor": anchor, x, y });
    name.textContent = objectives[i];
    pad.append(name);
  });
  const here = shape("circle", { r: 10, class: "here" });
  pad.append(here);
  host.append(pad);

  function clean(weights) {
    const kept = weights.map((weight) => Math.max(0, weight));
    const sum = kept.reduce((a, b) => a + b, 0);
    return kept.map((weight) => weight / sum);
  }
  function pointed(event) {
    const box = pad.getBoundingClientRect();
    const [x, y] = [((event.clientX - box.left) / box.width) * 300, ((event.clientY - box.top) / box.height) * 280];
    const top = (252 - y) / 225;
    const right = (x - 20 - top * 130) / 260;
    set(clean([right, 1 - top - right, top]));
  }
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    pointed(event);
  });
  pad.addEventListener("pointermove", (event) => {
    if (pad.hasPointerCapture(event.pointerId)) pointed(event);
  });
  const STEPS = { ArrowRight: [0.01, -0.01, 0], ArrowLeft: [-0.01, 0.01, 0], ArrowUp: [-0.005, -0.005, 0.01], ArrowDown: [0.005, 0.005, -0.01] };
  pad.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const far = event.shiftKey ? 10 : 1;
    set(clean(current().map((weight, i) => weight + far * step[i])));
  });
  return (weights) => {
    const [x, y] = place(weights);
    here.setAttribute("cx", x);
    here.setAttribute("cy", y);
    pad.setAttribute("aria-valuenow", Math.round(weights[0] * 100));
    pad.setAttribute("aria-valuetext", weighed(objectives, weights));
  };
}

export { make, number, percent, shape, weighed };
