// Where everything of the Circuit view stands. Left to right as the model computes: tokens, then for each sublayer what
// it reads, its heads or neurons, what it writes; then logits. Residual channels are rails that run through all of it.
import { evidence, telling } from "./data.js";
import { signed, visible } from "./format.js";

const ROW = 23;
const HEAD = { width: 94, node: 18, match: 60, top: 22, gap: 14 };
const COLUMN = { reads: 0, units: 96, headWrites: 96 + HEAD.width + 84, neuronWrites: 176 };
const END = { gap: 12, least: 90, edge: 14 }; // of the tokens at both ends
const NAMED = 2; // tokens at an end
const CHARACTER = 6.7; // of their font
const SHAPE = 0.74; // height over width that a circuit is given, as far as its rails can be set apart
const SWEEPS = 8;

// Places of nodes, heads, rails and column headings, and the lines that join them.
export function layout(data, { empty = false } = {}) {
  const columns = placeColumns(data, empty);
  const ends = endsOf(data);
  const [left, right] = [ends.left, ends.right].map((all) => END.gap + END.edge + Math.max(END.least, ...all.map((end) => end.width)));
  const width = columns.right + left + right;
  const gap = Math.max(12, Math.min(36, (SHAPE * width) / (data.channels.size + 3)));
  const units = makeUnits(data, columns);
  const order = arrange(data, units, columns, gap);
  const railY = new Map(order.map((channel, index) => [channel, 70 + index * gap]));
  const at = new Map();
  for (const unit of units) for (const [id, dx, dy] of unit.nodes) at.set(id, { x: unit.x + dx, y: unit.y + dy });
  for (const node of data.nodes) {
    if (node.reads) at.set(node.id, { x: columns.byDepth.get(node.depth).x + COLUMN.reads, y: railY.get(node.channel) });
    if (node.writes) at.set(node.id, { x: columns.byDepth.get(node.depth).writes, y: railY.get(node.channel) });
  }
  for (const channel of order) {
    at.set(`embed:${channel}`, { x: 0, y: railY.get(channel) });
    at.set(`logits:${channel}`, { x: columns.right, y: railY.get(channel) });
  }
  for (const end of ends.left) Object.assign(end, { x: 0, y: railY.get(end.channel) });
  for (const end of ends.right) Object.assign(end, { x: columns.right, y: railY.get(end.channel) });
  const bottom = Math.max(120, ...[...railY.values()], ...units.map((unit) => unit.y + unit.height));
  const top = Math.min(20, ...units.map((unit) => unit.y - 30));
  const heads = units.filter((unit) => unit.head !== undefined);
  const exits = new Map(heads.flatMap((unit) => unit.members.map((node) => [node.id, unit.x + unit.width])));
  return {
    at, heads, columns: columns.list, railY, gap,
    ends,
    lines: data.links.map((each) => ({ ...each, link: each, d: line(each, at, exits) })),
    box: { x: -left, y: top - 44, width, height: bottom - top + 84 },
  };
}

function placeColumns(data, empty) {
  const byDepth = new Map();
  const list = [];
  let x = 46;
  const used = new Set(data.nodes.map((node) => node.depth));
  for (let depth = 0; depth < 2 * data.model.config.n_layer; depth++) {
    const attention = depth % 2 === 0;
    const layer = Math.floor(depth / 2);
    const name = `layer ${layer} ${attention ? "attention" : "MLP"}`;
    if (!used.has(depth)) {
      // Said to be empty once for a run of them, unless all are to be shown.
      const last = list[list.length - 1];
      if (last && !last.used && !empty) last.names.push(name);
      else {
        list.push({ used: false, names: [name], x, width: empty ? 80 : 24, depth });
        x += empty ? 110 : 48;
      }
      continue;
    }
    const writes = x + (attention ? COLUMN.headWrites : COLUMN.neuronWrites);
    const column = { used: true, names: [name], depth, attention, x, units: x + COLUMN.units, writes, width: writes - x };
    byDepth.set(depth, column);
    list.push(column);
    x = writes + 62;
  }
  return { byDepth, list, right: x - 14 };
}

function makeUnits(data, columns) {
  const found = new Map();
  for (const node of data.nodes) {
    if (node.reads || node.writes) continue;
    const key = node.head === null ? node.id : `${node.layer}/${node.head}`;
    if (!found.has(key)) found.set(key, { key, depth: node.depth, members: [], layer: node.layer });
    const unit = found.get(key);
    if (node.head !== null) unit.head = node.head;
    unit.members.push(node);
  }
  for (const unit of found.values()) {
    const column = columns.byDepth.get(unit.depth);
    unit.x = column.units + (unit.head === undefined ? -8 : 0);
    if (unit.head === undefined) {
      Object.assign(unit, { height: ROW, middle: ROW / 2, nodes: [[unit.members[0].id, 0, ROW / 2]] });
    } else shapeHead(unit);
    unit.y = 0;
  }
  return [...found.values()];
}

// A head's box: q channels, k channels, then the v channels that what they agree on lets through.
function shapeHead(unit) {
  const part = (kind) => unit.members.filter((node) => node.kind === kind);
  const rows = [...part("attn.q"), ...part("attn.k")];
  const values = part("attn.v");
  let y = HEAD.top + ROW / 2;
  unit.nodes = [];
  for (const node of rows) {
    unit.nodes.push([node.id, HEAD.node, y]);
    y += ROW;
  }
  unit.match = { x: HEAD.match, y: rows.length ? HEAD.top + (rows.length * ROW) / 2 : HEAD.top + 8, rows: rows.length };
  y += values.length ? (rows.length ? HEAD.gap / 2 : HEAD.gap + 6) : 0;
  unit.values = [];
  for (const node of values) {
    unit.nodes.push([node.id, HEAD.node, y]);
    unit.values.push(y);
    y += ROW;
  }
  unit.width = HEAD.width;
  unit.height = y - ROW / 2 + 10;
  unit.middle = unit.height / 2;
}

// Orders rails and units so that lines are short: each goes to the middle of what it is joined to, in turns.
function arrange(data, units, columns, gap) {
  const unitOf = new Map();
  for (const unit of units) for (const node of unit.members) unitOf.set(node.id, unit);
  const byId = data.byId;
  const touching = new Map();
  for (const each of data.links) {
    if (each.kind !== "edge") continue;
    for (const [one, two] of [[each.source, each.target], [each.target, each.source]]) {
      const unit = unitOf.get(one);
      const node = byId.get(two);
      if (unit && (node.reads || node.writes)) {
        const weight = Math.abs(each.weight);
        unit.joined = unit.joined || [];
        unit.joined.push([node.channel, weight]);
        if (!touching.has(node.channel)) touching.set(node.channel, []);
        touching.get(node.channel).push([unit, weight]);
      }
    }
  }
  let order = [...data.channels.keys()].sort((a, b) => a - b);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const y = new Map(order.map((channel, index) => [channel, 70 + index * gap]));
    const centre = 70 + ((order.length - 1) * gap) / 2;
    for (const unit of units) unit.wish = mean((unit.joined || []).map(([channel, weight]) => [y.get(channel), weight]), centre);
    for (const column of columns.list) stack(units.filter((unit) => unit.depth === column.depth), centre);
    const wish = new Map(order.map((channel, index) => [
      channel, mean((touching.get(channel) || []).map(([unit, weight]) => [unit.y + unit.middle, weight]), y.get(channel)) + 1e-4 * index,
    ]));
    order = [...order].sort((a, b) => wish.get(a) - wish.get(b));
  }
  return order;
}

function mean(rows, otherwise) {
  let sum = 0;
  let total = 0;
  for (const [value, weight] of rows) {
    sum += value * weight;
    total += weight;
  }
  return total ? sum / total : otherwise;
}

// Puts the units of one column below each other, each as near to its wish as the others let it.
function stack(units, centre) {
  units.sort((a, b) => a.wish - b.wish);
  const space = units.length > 60 ? 2 : 12;
  const height = units.reduce((sum, unit) => sum + unit.height + space, -space);
  let y = centre - height / 2;
  const shift = mean(units.map((unit) => [unit.wish, 1]), centre) - centre;
  y = Math.max(40, y + shift * 0.5);
  for (const unit of units) {
    const wished = unit.wish - unit.middle;
    // What is left of the room that spreading may use keeps a column from growing past its rails.
    y = Math.max(y, Math.min(wished, y + 60));
    unit.y = y;
    y += unit.height + space;
  }
}

function line(each, at, exits) {
  const from = at.get(each.source);
  const to = at.get(each.target);
  if (each.kind === "rail") return `M${from.x} ${from.y}H${to.x}`;
  if (each.kind === "match") return matchLine(from, to);
  const start = exits.get(each.source) ?? from.x;
  const reach = Math.max(30, (to.x - start) * 0.5);
  const lead = start > from.x ? `M${from.x} ${from.y}H${start}` : `M${from.x} ${from.y}`;
  return `${lead}C${start + reach} ${from.y} ${to.x - reach} ${to.y} ${to.x} ${to.y}`;
}

function matchLine(from, to) {
  const x = from.x + (HEAD.match - HEAD.node);
  return `M${from.x} ${from.y}H${x - 6}Q${x} ${from.y} ${x} ${from.y + 6}V${to.y}`;
}

// The channels that come from tokens and those that go on to logits, with the tokens that are named there.
function endsOf(data) {
  const { tokens, completions } = evidence(data.circuit);
  const found = { left: new Set(), right: new Set() };
  for (const each of data.links) {
    if (each.kind !== "rail") continue;
    if (each.source.startsWith("embed:")) found.left.add(Number(each.source.slice(6)));
    if (each.target.startsWith("logits:")) found.right.add(Number(each.target.slice(7)));
  }
  const described = (channel, side) => {
    const { position, writes, reads } = data.channels.get(channel);
    if (position) return { channel, position, width: 100, rows: [] };
    const [weighted, named] = side === "left" ? [writes, tokens] : [reads, completions];
    const own = telling(data, weighted, named, NAMED).filter(([token]) => named.has(token));
    // Those that the task turns on; where there are none, the strongest of the others, as what they are: others.
    const rows = (own.length ? own : telling(data, weighted, named, NAMED)).map(([token, weight]) => ({ token: short(data.model.tokens[token]), weight: signed(weight, 2), negative: weight < 0, own: own.length > 0 }));
    const characters = rows.reduce((sum, row) => sum + row.token.length + row.weight.length + 2, String(channel).length);
    return { channel, rows, width: CHARACTER * characters };
  };
  return { left: [...found.left].map((channel) => described(channel, "left")), right: [...found.right].map((channel) => described(channel, "right")) };
}

const short = (token) => (token.length > 8 ? `${visible(token.slice(0, 7))}\u2026` : visible(token));

// The nearest node in a direction, for arrow keys: near along it, and not far to its side.
export function neighbour(places, ids, from, direction) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[direction];
  const start = places.get(from);
  let best = null;
  let least = Infinity;
  for (const id of ids) {
    if (id === from) continue;
    const to = places.get(id);
    const along = (to.x - start.x) * dx + (to.y - start.y) * dy;
    const aside = Math.abs((to.x - start.x) * dy) + Math.abs((to.y - start.y) * dx);
    if (along <= 0.5) continue;
    const distance = along + 2.2 * aside;
    if (distance < least) [best, least] = [id, distance];
  }
  return best;
}
