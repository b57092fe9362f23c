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
  const each = shown.map((line) => ({
    ...line, path: new Path2D(line.d),
    look: line.kind === "edge" ? (line.weight < 0 ? "neg" : "pos") : line.kind,
    width: line.kind === "edge" ? widthOf(line.weight, largest) : line.kind === "rail" ? 1.2 : 1.4,
  }));
  return { each, batches: batchesOf(each) };
}

function batchesOf(each) {
  const found = new Map();
  for (const line of each) {
    const key = `${line.look} ${line.width}`;
    if (!found.has(key)) found.set(key, { look: line.look, width: line.width, path: new Path2D() });
    found.get(key).path.addPath(line.path);
  }
  // Rails lie below weights.
  return [...found.values()].sort((a, b) => (a.look === "rail" ? 0 : 1) - (b.look === "rail" ? 0 : 1));
}

export function drawLines(context, lines, view, ratio, colours, lit, hidden) {
  const { canvas } = context;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(ratio * view.k, 0, 0, ratio * view.k, ratio * view.x, ratio * view.y);
  context.lineCap = "round";
  const thin = Math.max(1, 0.6 / view.k);
  const busy = lines.each.length > 1500 ? 0.35 : lines.each.length > 400 ? 0.6 : 0.85;
  const stroke = (look, width, path, alpha) => {
    context.globalAlpha = look === "rail" ? Math.min(1, alpha * 1.2) : alpha;
    context.strokeStyle = colours[look];
    context.lineWidth = width * thin;
    context.setLineDash(look === "match" ? [3, 3] : []);
    context.stroke(path);
  };
  if (!hidden.size && !lit) {
    for (const batch of lines.batches) stroke(batch.look, batch.width, batch.path, busy);
    return;
  }
  if (lit && !hidden.size) for (const batch of lines.batches) stroke(batch.look, batch.width, batch.path, 0.12);
  const on = lit ? new Set([...lit.links].map((link) => `${link.source}>${link.target}`)) : null;
  for (const line of lines.each) {
    const gone = hidden.has(line.source) || hidden.has(line.target);
    const bright = on && on.has(`${line.source}>${line.target}`);
    if (gone) stroke(line.look, line.width, line.path, 0.06);
    else if (bright) stroke(line.look, line.width + 0.4, line.path, 1);
    else if (!on) stroke(line.look, line.width, line.path, busy);
    else if (hidden.size) stroke(line.look, line.width, line.path, 0.12);
  }
}
