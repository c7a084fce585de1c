// The measured front as a picture: title, legend and planes in the page's colours, as a PNG.

import { shape } from "./preference.js";

const [MARGIN, GAP, LINE, SCALE] = [20, 24, 20, 2];
const PAINT = ["fill", "stroke", "stroke-width", "stroke-linejoin", "opacity", "font-size", "font-family"];

// A copy of a plane that needs no style sheet.
function painted(plane, x, y) {
  const copy = plane.cloneNode(true);
  const originals = [plane, ...plane.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((node, i) => {
    const style = getComputedStyle(originals[i]);
    for (const name of PAINT) node.setAttribute(name, style.getPropertyValue(name));
  });
  const { width, height } = plane.viewBox.baseVal;
  for (const [name, value] of Object.entries({ x, y, width, height, overflow: "visible" })) copy.setAttribute(name, value);
  return copy;
}

function words(content, x, y, size, colour, weight = 400) {
  const attributes = { x, y, fill: colour, "font-size": size, "font-weight": weight };
  const node = shape("text", attributes);
  node.setAttribute("font-family", getComputedStyle(document.body).fontFamily);
  node.textContent = content;
  return node;
}

// `card` holds a legend and planes; `title` and `note` are written above and below them.
function drawing(card, title, note) {
  const colour = (name) => getComputedStyle(document.body).getPropertyValue(`--${name}`);
  const planes = [...card.querySelectorAll(".plane")];
  const sizes = planes.map((plane) => plane.viewBox.baseVal);
  const width = 2 * MARGIN + sizes.reduce((sum, size) => sum + size.width, 0) + GAP * (planes.length - 1);
  const parts = [words(title, MARGIN, MARGIN + 14, 16, colour("ink"), 650)];
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `13px ${getComputedStyle(document.body).fontFamily}`;
  let [x, y] = [MARGIN, MARGIN + 40];
  for (const entry of card.querySelectorAll(".legend li")) {
    const length = pen.measureText(entry.textContent).width + 16;
    if (x > MARGIN && x + length > width - MARGIN) [x, y] = [MARGIN, y + LINE];
    const fill = getComputedStyle(entry.querySelector("i")).backgroundColor;
    parts.push(shape("rect", { x, y: y - 10, width: 10, height: 10, rx: 2, fill }), words(entry.textContent, x + 16, y, 13, colour("ink")));
    x += length + 18;
  }
  [x, y] = [MARGIN, y + LINE];
  planes.forEach((plane, i) => {
    parts.push(painted(plane, x, y));
    x += sizes[i].width + GAP;
  });
  y += Math.max(...sizes.map((size) => size.height)) + LINE;
  let line = "";
  for (const word of note.split(" ")) {
    if (pen.measureText(`${line} ${word}`).width > width - 2 * MARGIN) {
      parts.push(words(line, MARGIN, y, 12, colour("soft")));
      [line, y] = ["", y + 16];
    }
    line = line ? `${line} ${word}` : word;
  }
  parts.push(words(line, MARGIN, y, 12, colour("soft")));
  const height = y + MARGIN;
  const svg = shape("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` });
  svg.append(shape("rect", { width, height, fill: colour("card") }), ...parts);
  return { svg, width, height };
}

export async function picture(card, title, note) {
  const { svg, width, height } = drawing(card, title, note);
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(svg))}`;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: width * SCALE, height: height * SCALE });
  const pen = canvas.getContext("2d");
  pen.scale(SCALE, SCALE);
  pen.drawImage(image, 0, 0);
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}
