// Lines of the Circuit view on a canvas: coloured by sign, as wide as their weight, thousands in a few strokes.

const WIDTHS = [0.8, 1.5, 2.4, 3.6, 5.2];

// Colours of the page's theme, as the style sheet has them.
export function palette(element) {
  const style = getComputedStyle(element);
  const read = (name) => style.getPropertyValue(name).trim();
  return { pos: read("--pos"), neg: read("--neg"), rail: read("--rail"), match: read("--match"), ink: read("--ink") };
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

// Lines that look alike joined into one path each, so that thousands take a few strokes; those of nodes that are
// filtered or off are faint.
export function batches(lines, hidden) {
  const busy = lines.length > 1500 ? 0.35 : lines.length > 400 ? 0.6 : 0.85;
  return joinedBy(lines, (line) => ({ alpha: hidden.has(line.source) || hidden.has(line.target) ? 0.06 : busy, width: line.width }));
}

const MOST_LIT = 3000;

// The lines of a path, the strongest where there are thousands.
export function litBatches(lines, path) {
  const found = lines.filter((line) => path.links.has(line.link));
  if (found.length > MOST_LIT) found.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).length = MOST_LIT;
  return joinedBy(found, (line) => ({ alpha: 1, width: line.width + 0.4 }));
}

function joinedBy(lines, look) {
  const found = new Map();
  for (const line of lines) {
    const { alpha, width } = look(line);
    const key = `${line.look} ${width} ${alpha}`;
    if (!found.has(key)) found.set(key, { look: line.look, width, alpha, path: new Path2D() });
    found.get(key).path.addPath(line.path);
  }
  // Rails lie below weights.
  const rank = (batch) => (batch.look === "rail" ? 0 : 1);
  return [...found.values()].sort((a, b) => rank(a) - rank(b));
}

// Nodes as dots, for while a large circuit is moved.
export function drawDots(context, places, colours) {
  context.globalAlpha = 1;
  context.fillStyle = colours.ink;
  context.beginPath();
  for (const { x, y } of places) {
    context.moveTo(x + 5, y);
    context.arc(x, y, 5, 0, 2 * Math.PI);
  }
  context.fill();
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
