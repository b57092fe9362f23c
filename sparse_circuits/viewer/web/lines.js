// Lines of the Circuit view on a canvas: coloured by sign, as wide as their weight, thousands in a few strokes.

const WIDTHS = [0.8, 1.5, 2.4, 3.6, 5.2];

// Colours of the page's theme, as the style sheet has them.
export function palette(element) {
  const style = getComputedStyle(element);
  const read = (name) => style.getPropertyValue(name).trim();
  return { pos: read("--pos"), neg: read("--neg"), rail: read("--rail"), match: read("--match") };
}

export function widthOf(weight, largest) {
  const share = Math.sqrt(Math.min(1, Math.abs(weight) / largest));
  return WIDTHS[Math.min(WIDTHS.length - 1, Math.floor(share * WIDTHS.length))];
}

// The lines with their paths and looks; edges weaker than `strength` of the strongest are left out.
export function prepareLines(lines, largest, strength) {
  const shown = lines.filter((line) => line.kind !== "edge" || Math.abs(line.weight) >= strength * largest);
  return shown.map((line) => ({
    ...line, path: new Path2D(line.d),
    look: line.kind === "edge" ? (line.weight < 0 ? "neg" : "pos") : line.kind,
    width: line.kind === "edge" ? widthOf(line.weight, largest) : line.kind === "rail" ? 1.2 : 1.4,
  }));
}

// Lines that look alike joined into one path each, so that thousands take a few strokes. `lit` is the path through the
// node that is pointed at, or null; `hidden` are nodes that are filtered or off.
export function batches(lines, lit, hidden) {
  const busy = lines.length > 1500 ? 0.35 : lines.length > 400 ? 0.6 : 0.85;
  const found = new Map();
  for (const line of lines) {
    const gone = hidden.has(line.source) || hidden.has(line.target);
    const bright = lit && lit.links.has(line.link);
    const alpha = gone ? 0.06 : bright ? 1 : lit ? 0.12 : busy;
    const width = line.width + (bright && !gone ? 0.4 : 0);
    const key = `${line.look} ${width} ${alpha}`;
    if (!found.has(key)) found.set(key, { look: line.look, width, alpha, path: new Path2D() });
    found.get(key).path.addPath(line.path);
  }
  // Rails lie below weights, and what is lit above all.
  const rank = (batch) => (batch.alpha === 1 ? 2 : 0) + (batch.look === "rail" ? 0 : 1);
  return [...found.values()].sort((a, b) => rank(a) - rank(b));
}

export function drawLines(context, joined, view, ratio, colours) {
  const { canvas } = context;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(ratio * view.k, 0, 0, ratio * view.k, ratio * view.x, ratio * view.y);
  context.lineCap = "round";
  const thin = Math.max(1, 0.6 / view.k);
  for (const { look, width, alpha, path } of joined) {
    context.globalAlpha = alpha;
    context.strokeStyle = colours[look];
    context.lineWidth = width * thin;
    context.setLineDash(look === "match" ? [3, 3] : []);
    context.stroke(path);
  }
}
