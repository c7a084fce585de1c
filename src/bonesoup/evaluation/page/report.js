"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const two = data.objectives.length === 2;
const colour = (key) => `var(--${key})`;
const near = (a, b) => a.every((value, i) => Math.abs(value - b[i]) < 1e-6);
const text = (value, digits = 2) => (Math.abs(value) < 0.5 * 10 ** -digits ? 0 : value).toFixed(digits).replace("-", "−");
const plain = (value) => String(Math.round(value * 1000) / 1000).replace("-", "−");
let chosen = nearest(data.objectives.map(() => 1 / data.objectives.length));

function nearest(mu) {
  const far = data.grid.map((row) => row.reduce((sum, w, i) => sum + (w - mu[i]) ** 2, 0));
  return far.indexOf(Math.min(...far));
}
/* Text is only ever set as text: responses come from a model. */
function node(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "circle", "rect", "text", "g", "title"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
function marker(key, x, y, size, extra = {}) {
  const s = size, shapes = {
    s: `M${-s} ${-s}H${s}V${s}H${-s}Z`,
    D: `M0 ${-1.35 * s}L${1.35 * s} 0L0 ${1.35 * s}L${-1.35 * s} 0Z`,
    v: `M${-1.2 * s} ${-s}H${1.2 * s}L0 ${1.2 * s}Z`,
    "^": `M${-1.2 * s} ${s}H${1.2 * s}L0 ${-1.2 * s}Z`,
    "<": `M${s} ${-1.2 * s}V${1.2 * s}L${-1.2 * s} 0Z`,
    ">": `M${-s} ${-1.2 * s}V${1.2 * s}L${1.2 * s} 0Z`,
    h: `M${0.0 * s} ${-1.25 * s}L${1.08 * s} ${-0.63 * s}L${1.08 * s} ${0.62 * s}L${0.0 * s} ${1.25 * s}L${-1.08 * s} ${0.63 * s}L${-1.08 * s} ${-0.63 * s}Z`,
    d: `M0 ${-1.5 * s}L${0.85 * s} 0L0 ${1.5 * s}L${-0.85 * s} 0Z`,
    H: `M${-1.25 * s} 0L${-0.63 * s} ${-1.08 * s}H${0.63 * s}L${1.25 * s} 0L${0.63 * s} ${1.08 * s}H${-0.63 * s}Z`,
    p: `M${0.0 * s} ${-1.3 * s}L${1.24 * s} ${-0.4 * s}L${0.76 * s} ${1.05 * s}L${-0.76 * s} ${1.05 * s}L${-1.24 * s} ${-0.4 * s}Z`,
    "*": `M${0.0 * s} ${-1.6 * s}L${0.38 * s} ${-0.53 * s}L${1.52 * s} ${-0.49 * s}L${0.62 * s} ${0.2 * s}L${0.94 * s} ${1.29 * s}L${0.0 * s} ${0.65 * s}L${-0.94 * s} ${1.29 * s}L${-0.62 * s} ${0.2 * s}L${-1.52 * s} ${-0.49 * s}L${-0.38 * s} ${-0.53 * s}Z`,
    P: `M${-0.4 * s} ${-1.2 * s}H${0.4 * s}V${-0.4 * s}H${1.2 * s}V${0.4 * s}H${0.4 * s}V${1.2 * s}H${-0.4 * s}V${0.4 * s}H${-1.2 * s}V${-0.4 * s}H${-0.4 * s}Z`,
    X: `M${-s} ${-s}L${s} ${s}M${-s} ${s}L${s} ${-s}`,
  };
  const shape = data.methods.find((m) => m.key === key).marker;
  const look = shape === "X" ? { fill: "none", stroke: colour(key), "stroke-width": s * 0.75 } : { fill: colour(key), stroke: "var(--card)", "stroke-width": 1 };
  const round = `M${-s * 1.1} 0a${s * 1.1} ${s * 1.1} 0 1 0 ${s * 2.2} 0a${s * 1.1} ${s * 1.1} 0 1 0 ${-s * 2.2} 0Z`;
  return node("path", { d: shapes[shape] || round, transform: `translate(${x} ${y})`, ...look, ...extra });
}

function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9; k++) found.push(k * step);
  return found;
}
/* An empty chart with axes; x and y map data to pixels. */
function frame(box, range, { height, xLabel = "", yLabel = "", xTicks, names } = {}) {
  const width = Math.max(box.clientWidth, 160), left = yLabel ? 52 : 34, bottom = xLabel ? 40 : 22, top = 8, right = 10;
  const [x0, x1] = range.x, [y0, y1] = range.y;
  const x = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - right);
  const y = (v) => height - bottom - ((v - y0) / (y1 - y0)) * (height - top - bottom);
  const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
  for (const v of ticks(y0, y1, Math.max(3, Math.round(height / 60)))) {
    svg.append(node("line", { class: "rule", x1: left, x2: width - right, y1: y(v), y2: y(v) }), node("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, plain(v)));
  }
  for (const v of xTicks || ticks(x0, x1, Math.max(2, Math.round(width / 80)))) {
    if (!names) svg.append(node("line", { class: "rule", x1: x(v), x2: x(v), y1: top, y2: height - bottom }));
    svg.append(node("text", { x: x(v), y: height - bottom + 16, "text-anchor": "middle" }, names ? names[v] : plain(v)));
  }
  if (xLabel) svg.append(node("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xLabel));
  if (yLabel) svg.append(node("text", { transform: `translate(11 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
  box.replaceChildren(svg);
  return { svg, x, y, top, base: height - bottom };
}
const line = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
function padded(values, share) {
  const low = Math.min(...values), high = Math.max(...values), pad = (high - low || 1) * share;
  return [low - pad, high + pad];
}
const weights = (mu) => data.objectives.map((name, i) => `${name} ${plain(mu[i])}`).join(" · ");
/* Where a method's list of preferences has the chosen one; -1 where it has no answer. */
const place = (method, preferences) => (method.constant ? 0 : preferences.findIndex((mu) => near(mu, data.grid[chosen])));

function front(box, unit, pair = [0, 1]) {
  const [i, j] = pair, all = data.methods.flatMap((m) => m.points[unit]);
  const range = { x: padded(all.map((p) => p[i]), 0.1), y: padded(all.map((p) => p[j]), 0.1) };
  const { svg, x, y } = frame(box, range, { height: Math.min(400, Math.max(270, box.clientWidth * 0.8)), xLabel: data.objectives[i], yLabel: data.objectives[j] });
  svg.setAttribute("aria-label", `Fronts: ${data.objectives[i]} against ${data.objectives[j]}`);
  const radius = Math.sqrt(-2 * Math.log(1 - data.confidence));
  for (const method of data.methods) {
    method.points[unit].forEach((p, k) => {
      const c = method.covariances[unit][k], a = Math.sqrt(c[i][i]), b = a ? c[i][j] / a : 0, d = Math.sqrt(Math.max(c[j][j] - b * b, 0));
      const ring = [...Array(33)].map((_, t) => [Math.cos((t * Math.PI) / 16) * radius, Math.sin((t * Math.PI) / 16) * radius]);
      svg.append(node("path", { d: line(ring.map(([u, v]) => [x(p[i] + a * u), y(p[j] + b * u + d * v)])) + "Z", fill: colour(method.key), opacity: 0.1 }));
    });
  }
  for (const method of data.methods) {
    const points = method.points[unit].map((p) => [x(p[i]), y(p[j])]);
    if (two && !method.partial && !method.constant) svg.append(node("path", { d: line(points), fill: "none", stroke: colour(method.key), "stroke-width": 1.8, opacity: 0.85 }));
    points.forEach(([a, b], k) => {
      const said = method.constant ? "any preference" : weights(method.preferences[k]);
      const p = method.points[unit][k];
      svg.append(marker(method.key, a, b, method.constant ? 5.5 : 4, {}));
      svg.lastChild.append(node("title", {}, `${method.name}, ${said}: ${text(p[i])}, ${text(p[j])}`));
    });
  }
  const labelled = data.methods.find((m) => m.key === data.main) || data.methods.find((m) => !m.constant);
  const last = labelled.preferences.length - 1, middle = Math.floor(labelled.preferences.length / 2);
  /* The ends are labelled on the side of the origin, the middle on the other: clear of every front. */
  for (const [k, dx, dy, anchor] of two ? [[0, 0, 24, "start"], [middle, 12, -10, "start"], [last, -8, 18, "end"]] : []) {
    const p = labelled.points[unit][k], share = labelled.preferences[k].map(plain).join(", ");
    svg.append(node("text", { x: x(p[i]) + dx, y: y(p[j]) + dy, "text-anchor": anchor }, `(${share})`));
  }
  for (const method of data.methods) {
    const k = method.constant ? -1 : place(method, method.preferences);
    if (k < 0) continue;
    const p = method.points[unit][k];
    svg.append(node("circle", { cx: x(p[i]), cy: y(p[j]), r: 9.5, fill: "none", stroke: colour(method.key), "stroke-width": 2 }));
  }
}

function gain(box, unit) {
  const rivals = data.methods.filter((m) => m.gains[unit] && !m.constant);
  if (!two) return bars(box, unit, rivals);
  const all = rivals.flatMap((m) => [...m.gains[unit].low, ...m.gains[unit].high, 0]);
  const { svg, x, y, top, base } = frame(box, { x: [-0.03, 1.03], y: padded(all, 0.06) }, { height: 290, xLabel: `weight on ${data.objectives[0]}`, yLabel: "utility gained" });
  svg.setAttribute("aria-label", "Utility gained over Rewarded Soup by preference");
  const inside = data.grid.filter((_, k) => data.interior[k]).map((mu) => mu[0]);
  if (inside.length) svg.prepend(node("rect", { class: "inside", x: x(Math.min(...inside)), width: x(Math.max(...inside)) - x(Math.min(...inside)), y: top, height: base - top }));
  svg.append(node("line", { x1: x(-0.03), x2: x(1.03), y1: y(0), y2: y(0), stroke: colour(data.baseline), "stroke-width": 1.6 }));
  for (const method of rivals) {
    const g = method.gains[unit], at = method.preferences.map((mu) => x(mu[0]));
    const edge = (values) => values.map((v, k) => [at[k], y(v)]);
    if (method.partial) at.forEach((a, k) => svg.append(node("line", { x1: a, x2: a, y1: y(g.low[k]), y2: y(g.high[k]), stroke: colour(method.key), "stroke-width": 2 })));
    else {
      svg.append(node("path", { d: line([...edge(g.low), ...edge(g.high).reverse()]) + "Z", fill: colour(method.key), opacity: 0.16 }));
      svg.append(node("path", { d: line(edge(g.value)), fill: "none", stroke: colour(method.key), "stroke-width": 1.8 }));
    }
    at.forEach((a, k) => {
      svg.append(marker(method.key, a, y(g.value[k]), 3.6));
      svg.lastChild.append(node("title", {}, `${method.name}, ${weights(method.preferences[k])}: ${text(g.value[k], 3)} [${text(g.low[k], 3)}, ${text(g.high[k], 3)}]`));
    });
  }
  svg.append(node("line", { class: "zero", x1: x(data.grid[chosen][0]), x2: x(data.grid[chosen][0]), y1: top, y2: base }));
}
function bars(box, unit, rivals) {
  const names = ["interior", "edge", "vertex"], found = data.regions[unit];
  const all = [0, ...rivals.flatMap((m) => Object.values(found[m.key]).flatMap((e) => [e.low, e.high]))];
  const { svg, x, y } = frame(box, { x: [-0.5, 2.5], y: padded(all, 0.06) }, { height: 290, yLabel: "utility gained", xTicks: [0, 1, 2], names });
  svg.setAttribute("aria-label", "Utility gained over Rewarded Soup by region");
  const wide = (x(1) - x(0)) * Math.min(0.25, 0.75 / rivals.length);
  rivals.forEach((method, k) => names.forEach((name, at) => {
    const e = found[method.key][name];
    if (!e) return;
    const centre = x(at) + (k - (rivals.length - 1) / 2) * wide * 1.15;
    const bar = node("rect", { x: centre - wide / 2, width: wide, y: Math.min(y(0), y(e.value)), height: Math.abs(y(e.value) - y(0)), fill: colour(method.key), opacity: 0.8 });
    bar.append(node("title", {}, `${method.name}, ${name}: ${text(e.value, 3)} [${text(e.low, 3)}, ${text(e.high, 3)}]`));
    svg.append(bar, node("line", { x1: centre, x2: centre, y1: y(e.low), y2: y(e.high), stroke: "var(--ink)", "stroke-width": 1.6 }));
  }));
  svg.append(node("line", { x1: x(-0.5), x2: x(2.5), y1: y(0), y2: y(0), stroke: colour(data.baseline), "stroke-width": 1.6 }));
}

function bar(label, value, reach) {
  const at = (v) => 50 + (v / reach) * 50, track = node("span", { class: "track" });
  track.append(node("i", { style: `left:${Math.min(50, at(value))}%;width:${Math.abs(at(value) - 50)}%` }), node("b", { style: "left:50%" }));
  return [node("span", {}, label), track, node("span", {}, text(value))];
}
function head(method) {
  const icon = node("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" });
  icon.append(marker(method.key, 0, 0, 5));
  return node("p", { class: "head" }, icon, method.name);
}
function mixes() {
  const unit = data.units[0], box = document.getElementById("mixes"), mu = data.grid[chosen];
  const reach = Math.max(...data.methods.flatMap((m) => [...m.points[unit.key].flat(), ...(m.merge && !m.partial ? m.merge.coefficients.flat() : [0])].map(Math.abs)), 1);
  box.replaceChildren(...data.methods.map((method) => {
    const card = node("div", { class: `mix m-${method.key}` }, head(method)), k = place(method, method.preferences);
    if (k < 0) {
      const has = method.preferences.map((p) => (two ? plain(p[0]) : `(${p.map(plain).join(", ")})`)).join(two ? ", " : " ");
      card.append(node("p", { class: "muted" }, `No policy was trained for this preference. It has ${two ? `${data.objectives[0]} at ` : ""}${has}.`));
      return card;
    }
    const p = method.points[unit.key][k], utility = p.reduce((sum, v, i) => sum + v * mu[i], 0);
    card.append(node("p", { class: "muted split" }, node("span", {}, { gold: "mean gold score", judge: "mean judge's score" }[unit.key] ?? "mean reward"), node("span", {}, `utility ${text(utility)}`)), node("div", { class: "bars" }, ...data.objectives.flatMap((name, i) => bar(name, p[i], reach))));
    const merge = method.merge, own = merge ? place(method, merge.preferences) : -1;
    if (own >= 0 && merge.policies.length) {
      const mixed = merge.coefficients[own].map((c, i) => [merge.policies[i], c]).filter(([, c]) => !method.partial || c);
      card.append(node("p", { class: "muted", style: "margin-top:.5rem" }, "merging coefficients λ"), node("div", { class: "bars" }, ...mixed.flatMap(([slot, c]) => bar(slot, c, reach))));
    }
    return card;
  }));
}
function examples() {
  const scores = (r) => {
    // The truest score next to the learned one.
    const [said, truer] = r.gold ? ["gold", r.gold] : ["judge", r.judge];
    const box = node("div", { class: truer ? "scores" : "scores one" }, node("span"), ...(truer ? [node("i", {}, said)] : []), node("i", {}, "learned"));
    data.objectives.forEach((name, i) => box.append(node("span", {}, name), ...(truer ? [node("span", {}, text(truer[i]))] : []), node("span", {}, text(r.reward[i]))));
    return box;
  };
  document.getElementById("examples").replaceChildren(...data.examples.map((example) => {
    const answers = data.methods.map((method) => {
      const rows = example.responses[method.key] || [], k = place(method, rows.map((r) => r.preference)), card = node("div", { class: `answer m-${method.key}` }, head(method));
      if (k < 0 || !rows.length) return card.append(node("p", { class: "muted" }, "no policy for this preference")), card;
      const r = rows[k];
      card.append(node("p", {}, r.text || "(empty)"));
      card.append(scores(r), node("p", { class: "muted small-print" }, `${r.tokens} tokens${r.finished ? "" : ", cut at the limit"}`));
      return card;
    });
    return node("article", { class: "example" }, node("h3", {}, example.prompt), node("div", { class: "answers" }, ...answers));
  }));
}

function control() {
  const box = document.getElementById("slider"), count = data.grid.length;
  if (two) {
    const range = node("input", { type: "range", min: 0, max: count - 1, step: 1, value: chosen, "aria-label": `weight on ${data.objectives[0]} against ${data.objectives[1]}` });
    range.addEventListener("input", () => choose(Number(range.value)));
    box.append(node("label", {}, `◂ ${data.objectives[1]}`), range, node("label", {}, `${data.objectives[0]} ▸`));
    box.update = () => { range.value = chosen; range.setAttribute("aria-valuetext", weights(data.grid[chosen])); };
    return;
  }
  const select = node("select", { "aria-label": "preference" }, ...data.grid.map((mu, k) => node("option", { value: k }, weights(mu))));
  const step = (by, label, said) => { const b = node("button", { type: "button", "aria-label": said }, label); b.addEventListener("click", () => choose((chosen + by + count) % count)); return b; };
  select.addEventListener("change", () => choose(Number(select.value)));
  const dots = [];
  if (data.objectives.length === 3) {
    const triangle = node("svg", { viewBox: "-8 -8 116 103", "aria-hidden": "true" });
    data.grid.forEach((mu, k) => {
      const dot = node("circle", { cx: mu[1] * 100 + mu[2] * 50, cy: 86.6 * (1 - mu[2]), r: 6 }, node("title", {}, weights(mu)));
      dot.addEventListener("click", () => choose(k));
      dots.push(dot); triangle.append(dot);
    });
    box.append(triangle);
  }
  document.getElementById("preference").className = "unseen";
  box.append(step(-1, "◂", "previous preference"), select, step(1, "▸", "next preference"));
  box.update = () => { select.value = chosen; dots.forEach((dot, k) => dot.setAttribute("class", k === chosen ? "on" : "")); };
}
function choose(k) {
  chosen = k;
  document.getElementById("slider").update();
  document.getElementById("preference").textContent = weights(data.grid[k]);
  mixes(); examples(); draw();
}

function draw() {
  for (const box of document.querySelectorAll("[data-kind=front]")) front(box, box.dataset.unit, (box.dataset.pair || "0,1").split(",").map(Number));
  for (const box of document.querySelectorAll("[data-kind=gain]")) gain(box, box.dataset.unit);
}
/* Beyond two objectives: one panel for each pair of them. */
function panels() {
  if (two) return;
  const host = document.querySelector("[data-fronts]"), made = [];
  for (const unit of data.units) for (let i = 0; i < data.objectives.length; i++) for (let j = i + 1; j < data.objectives.length; j++) {
    made.push(node("figure", { class: "chart" }, node("figcaption", {}, unit.name), node("div", { class: "plot", "data-kind": "front", "data-unit": unit.key, "data-pair": `${i},${j}` })));
  }
  host.replaceChildren(...made);
  host.style.gridTemplateColumns = "repeat(auto-fit, minmax(min(100%, 18rem), 1fr))";
}
function training() {
  const box = document.getElementById("training");
  if (!box) return;
  const all = data.training.flatMap((t) => t.rows), keys = Object.keys(all[0]).filter((key) => key.startsWith("reward/"));
  const judges = keys.map((key) => key.replace("reward/", "judge/")).filter((key) => key in all[0]);
  const tone = (name) => (name === "kl" ? "var(--ink)" : `var(--o${keys.indexOf(name.replace("judge/", "reward/")) % 4})`);
  document.getElementById("objectives-legend").replaceChildren(...keys.map((key, i) => node("li", {}, node("i", { style: `color:var(--o${i % 4})` }), key.slice(7))), node("li", {}, node("i", { style: "color:var(--ink)" }), "KL (lower panel)"));
  const span = (names) => padded(all.flatMap((row) => names.map((name) => row[name])), 0.05);
  const steps = [Math.min(...all.map((r) => r.step)), Math.max(...all.map((r) => r.step), 2)];
  box.replaceChildren(...data.training.map((t) => node("figure", { class: "chart" }, node("figcaption", {}, t.slot), node("div", { class: "plot" }), node("div", { class: "plot" }))));
  data.training.forEach((t, k) => {
    const [above, below] = box.children[k].querySelectorAll(".plot");
    for (const [host, names, height] of [[above, [...keys, ...judges], 130], [below, ["kl"], 96]]) {
      const { svg, x, y } = frame(host, { x: steps, y: span(names) }, { height });
      svg.setAttribute("aria-label", `${t.slot}: ${names.join(", ")} by step`);
      for (const name of names) svg.append(node("path", { d: line(t.rows.map((r) => [x(r.step), y(r[name])])), fill: "none", stroke: tone(name), "stroke-width": 1.6, "stroke-dasharray": name.startsWith("judge/") ? "4 2" : "none" }));
    }
  });
}

for (const icon of document.querySelectorAll("[data-marker]")) icon.append(marker(icon.dataset.marker, 0, 0, 5));
control(); panels(); choose(chosen); training();
let width = document.body.clientWidth;
addEventListener("resize", () => { if (document.body.clientWidth !== width) { width = document.body.clientWidth; draw(); training(); } });
