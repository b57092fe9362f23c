// Figures for a paper: what is on screen as SVG that stands by itself, or as PNG.

const KEPT = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "opacity", "font-family", "font-size", "font-weight", "text-anchor", "paint-order", "display"];

// A copy of `svg` with its styles written into it, so that it looks the same outside of the page.
export function standalone(svg, box, lines = []) {
  const copy = svg.cloneNode(true);
  const from = [svg, ...svg.querySelectorAll("*")];
  const to = [copy, ...copy.querySelectorAll("*")];
  from.forEach((each, index) => {
    const style = getComputedStyle(each);
    to[index].removeAttribute("style");
    for (const name of KEPT) {
      const value = style.getPropertyValue(name);
      if (value && value !== "none" && value !== "normal" && value !== "auto") to[index].setAttribute(name, value);
      else if (value === "none" && (name === "fill" || name === "display")) to[index].setAttribute(name, "none");
    }
    to[index].removeAttribute("class");
  });
  for (const each of copy.querySelectorAll(".hit, [display=none]")) each.remove();
  copy.removeAttribute("transform");
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("viewBox", `${box.x} ${box.y} ${box.width} ${box.height}`);
  copy.setAttribute("width", Math.round(box.width));
  copy.setAttribute("height", Math.round(box.height));
  const paper = getComputedStyle(document.documentElement).getPropertyValue("--paper").trim();
  const back = element("rect", { x: box.x, y: box.y, width: box.width, height: box.height, fill: paper });
  const below = element("g", { fill: "none", "stroke-linecap": "round" });
  for (const line of lines) below.append(element("path", { d: line.d, stroke: line.colour, "stroke-width": line.width, ...(line.dash ? { "stroke-dasharray": "3 3" } : {}) }));
  copy.prepend(back, below);
  return new XMLSerializer().serializeToString(copy);
}

function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export function download(content, name, type) {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// `text` of an SVG as a PNG of twice its size.
export async function asPng(text, box) {
  const address = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = address;
    await image.decode();
    const scale = Math.min(2, 8000 / Math.max(box.width, box.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(box.width * scale);
    canvas.height = Math.round(box.height * scale);
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  } finally {
    URL.revokeObjectURL(address);
  }
}

// The figure of the view that is open: its SVG text and its box; null where there is none.
export function currentFigure() {
  const graph = document.querySelector(".graph");
  if (graph && graph.controller) return graph.controller.figure();
  const svg = document.querySelector("svg.unrolled, svg.plot");
  if (!svg) return null;
  const [x, y, width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const box = { x, y, width, height };
  return { box, text: standalone(svg, box) };
}

// This page as a file, with what is open, pinned, grouped and noted: the one-file page saves itself, a served one asks
// its server for the file.
export async function pageWith(state) {
  const kept = JSON.stringify(state).replace(/</g, "\\u003c");
  if (!document.getElementById("bundle")) {
    const response = await fetch("api/page");
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const text = await response.text();
    return text.replace(/(<script type="application\/json" id="state">)[^<]*/, (_, start) => start + kept);
  }
  const copy = document.documentElement.cloneNode(true);
  copy.removeAttribute("data-theme");
  copy.querySelector("#app").innerHTML = "";
  copy.querySelector("#state").textContent = kept;
  return `<!doctype html>\n${copy.outerHTML}\n`;
}
