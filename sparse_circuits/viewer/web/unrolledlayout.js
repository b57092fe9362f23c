// The circuit over the tokens of one prompt, as a schematic. Tokens go from left to right; each that matters has those
// of its residual channels that act there as a bundle of lines going up, with nodes on them; attention goes from key to
// query token.
//
// What matters is found from the end: the last token; then, layer by layer downwards, the tokens that a head of the
// circuit looks at from a token that matters. All other tokens stand narrow and grey.
import { triangle } from "./attention.js";
import { grouped } from "./data.js";

export const PILL = { width: 34, height: 18 };
const SLOT = 40; // between the nodes of a sublayer
const HEAD_GAP = 14; // more between those of different heads
const ARRIVE = 84; // between the places where heads' attention arrives
const NARROW = 16;
const READS = 26; // above the start of a sublayer
const FIRST_SWEEPS = 6;

const MOST_NODES = 250;
const MOST_LINES = 4000;

// The circuit with the nodes that a figure can hold: of a large one those that cost most when removed, where that was
// measured, else those whose values differ most between the two sides of the pair.
export function trimmed(data, pair) {
  if (data.nodes.length <= MOST_NODES) return data;
  const measured = data.nodes.every((node) => node.cost !== null);
  const [a, b] = data.circuit.pairs[pair].sides.map((side) => side.circuit.values);
  const apart = (node) => {
    const [one, two] = [a[node.index], b[node.index]];
    const size = Math.max(1e-9, ...one.map(Math.abs), ...two.map(Math.abs));
    return Math.max(...one.map((value, place) => Math.abs(value - (two[place] ?? value)))) / size;
  };
  const worth = new Map(data.nodes.map((node) => [node, measured ? node.cost : apart(node)]));
  const chosen = new Set([...data.nodes].sort((x, y) => worth.get(y) - worth.get(x)).slice(0, MOST_NODES).map((node) => node.id));
  const links = data.links.filter((each) => each.kind === "edge" && chosen.has(each.source) && chosen.has(each.target));
  const strong = [...links].sort((x, y) => Math.abs(y.weight) - Math.abs(x.weight)).slice(0, MOST_LINES);
  return { ...data, nodes: data.nodes.filter((node) => chosen.has(node.id)), links: strong, backward: grouped(strong, (each) => each.target), by: measured ? "cost most" : "differ most between the sides" };
}

// `look`: attention below it is left out.
export function unroll(data, pair, side, inside = "circuit", look = 0.1) {
  const prompt = data.circuit.pairs[pair].sides[side];
  const length = prompt.tokens.length;
  const heads = data.circuit.heads.map((head) => ({ ...head, rows: triangle(head.patterns[pair][side][inside], length) }));
  const depths = [...new Set(data.nodes.map((node) => node.depth))].sort((a, b) => a - b);
  const needed = relevance(data, heads, depths, length, look);
  const order = ordered(data);
  const columns = placeTokens(data, needed, order, prompt, length);
  const stages = placeStages(data, depths);
  const scene = { look, columns, stages, nodes: [], edges: [], arcs: [], arrivals: [], boxes: [], rails: [], prompt, length, inside };
  for (const token of columns) if (token.wide) drawToken(data, scene, needed, token, prompt, heads);
  for (const head of heads) drawArcs(data, scene, needed, head);
  scene.width = columns[columns.length - 1].x + columns[columns.length - 1].width + 190;
  scene.height = stages.bottom + 92;
  return scene;
}

// By depth, the tokens whose output there reaches the answer, and those that are looked at.
function relevance(data, heads, depths, length, look) {
  const found = new Map();
  let wanted = new Set([length - 1]);
  for (const depth of [...depths].reverse()) {
    const looked = new Set();
    if (depth % 2 === 0) {
      for (const head of heads.filter((each) => 2 * each.layer === depth && hasValue(data, each))) {
        for (const query of wanted) head.rows[query].forEach((weight, key) => { if (weight >= look) looked.add(key); });
      }
    }
    found.set(depth, { queries: wanted, keys: looked });
    wanted = new Set([...wanted, ...looked]);
  }
  return { byDepth: found, all: wanted };
}

const hasValue = (data, head) => data.nodes.some((node) => node.kind === "attn.v" && node.layer === head.layer && node.head === head.head);

// The order of residual channels and of the nodes between them, the same at every token, so that few lines cross: each
// goes, in turns, to the middle of what it is joined to. Nodes of a head stay together.
function ordered(data) {
  const joined = new Map();
  const add = (from, to) => joined.set(from, [...(joined.get(from) || []), to]);
  for (const { kind, source, target } of data.links) {
    if (kind !== "edge") continue;
    const [one, two] = [data.byId.get(source), data.byId.get(target)];
    const [rail, unit] = one.reads ? [one, two] : [two, one];
    add(`channel:${rail.channel}`, unit.id);
    add(unit.id, `channel:${rail.channel}`);
  }
  const units = data.nodes.filter((node) => !node.reads && !node.writes);
  const rank = new Map();
  const spreadOver = (names) => names.forEach((name, index) => rank.set(name, names.length > 1 ? index / (names.length - 1) : 0.5));
  const wish = (name) => {
    const others = joined.get(name) || [];
    return others.length ? others.reduce((sum, each) => sum + rank.get(each), 0) / others.length : rank.get(name);
  };
  let channels = [...data.channels.keys()].sort((a, b) => a - b).map((channel) => `channel:${channel}`);
  spreadOver(channels);
  const groups = [...grouped(units, (node) => node.depth).values()];
  for (let sweep = 0; sweep < FIRST_SWEEPS; sweep++) {
    for (const group of groups) spreadOver(sortedUnits(group, sweep ? wish : () => 0).map((node) => node.id));
    channels = channels.map((name) => [wish(name), name]).sort((a, b) => a[0] - b[0]).map(([, name]) => name);
    spreadOver(channels);
  }
  return rank;
}

function sortedUnits(units, wish) {
  const wishes = new Map(units.map((node) => [node, wish(node.id)]));
  const heads = grouped(units, (node) => node.head ?? node.id);
  const middle = (members) => members.reduce((sum, node) => sum + wishes.get(node), 0) / members.length;
  return [...heads.values()].sort((a, b) => middle(a) - middle(b)).flatMap((members) => members.sort((a, b) => wishes.get(a) - wishes.get(b)));
}

function placeTokens(data, needed, order, prompt, length) {
  let x = 44;
  return prompt.tokens.map((token, place) => {
    const wide = needed.all.has(place);
    const units = new Map();
    if (wide) for (const depth of needed.byDepth.keys()) units.set(depth, unitsAt(data, needed, order, depth, place));
    const channels = wide ? channelsAt(data, needed, order, units, place) : [];
    const gap = Math.max(8, Math.min(18, 260 / Math.max(1, channels.length - 1)));
    const room = Math.max((channels.length - 1) * gap, ...[...units.values()].map(widthOf), 60);
    const width = wide ? room + PILL.width + 12 : NARROW;
    const middle = x + width / 2;
    const lineX = new Map(channels.map((channel, index) => [channel, middle + (index - (channels.length - 1) / 2) * gap]));
    const column = { place, token, wide, x, width, middle, units, lineX, last: place === length - 1 };
    x += width + (wide ? 22 : 4);
    return column;
  });
}

// The nodes between reading and writing that a token has: queries where it looks, keys and values where it is looked at.
function unitsAt(data, needed, order, depth, place) {
  const { queries, keys } = needed.byDepth.get(depth);
  return data.nodes.filter((node) => {
    if (node.depth !== depth || node.reads || node.writes) return false;
    if (node.kind === "attn.q" || node.kind === "mlp.post_act") return queries.has(place);
    return keys.has(place);
  }).sort((a, b) => order.get(a.id) - order.get(b.id));
}

// The nodes on the residual stream that a token has: those that feed its units, and where it looks those that write.
function onStream(data, needed, depth, units, place) {
  const feeds = new Set(units.flatMap((node) => (data.backward.get(node.id) || []).filter((each) => each.kind === "edge").map((each) => each.source)));
  return data.nodes.filter((node) => node.depth === depth && ((node.reads && feeds.has(node.id)) || (node.writes && needed.byDepth.get(depth).queries.has(place))));
}

function channelsAt(data, needed, order, units, place) {
  const found = new Set();
  for (const [depth, group] of units) for (const node of onStream(data, needed, depth, group, place)) found.add(node.channel);
  return [...found].sort((a, b) => order.get(`channel:${a}`) - order.get(`channel:${b}`));
}

// Places of the units of a sublayer from left to right, from 0.
function offsets(units) {
  let x = 0;
  return units.map((node, index) => {
    if (index) x += SLOT + (node.head !== units[index - 1].head ? HEAD_GAP : 0);
    return x;
  });
}

const widthOf = (units) => (units.length ? offsets(units).at(-1) : 0);

// Heights: the more weights there are, the more room their numbers get.
function placeStages(data, depths) {
  let y = 0;
  const byDepth = new Map();
  const room = (count) => Math.min(210, 84 + 4 * count);
  for (const depth of depths) {
    const attention = depth % 2 === 0;
    const edges = data.links.filter((each) => each.kind === "edge" && data.byId.get(each.source).depth === depth);
    const into = edges.filter((each) => data.byId.get(each.source).reads).length;
    const units = READS + room(into);
    const arrive = attention ? units + 66 : units;
    const writes = arrive + room(edges.length - into);
    byDepth.set(depth, { base: y, attention, reads: READS, units, arrive, writes });
    y += writes + 20;
  }
  const top = 84;
  return { byDepth, top, bottom: top + y, at: (depth, stage) => top + y - byDepth.get(depth).base - byDepth.get(depth)[stage] };
}

function drawToken(data, scene, needed, column, prompt, heads) {
  const { stages } = scene;
  const placed = new Map();
  const touched = new Map();
  const put = (node, x, y) => {
    placed.set(node.id, { x, y });
    scene.nodes.push({ id: node.id, node, x, y, value: prompt[scene.inside].values[node.index][column.place], token: column.place, pill: !node.reads && !node.writes });
  };
  for (const [depth, { queries }] of needed.byDepth) {
    const units = column.units.get(depth);
    const along = offsets(units);
    units.forEach((node, index) => put(node, column.middle + along[index] - widthOf(units) / 2, stages.at(depth, "units")));
    for (const node of onStream(data, needed, depth, units, column.place)) {
      const y = stages.at(depth, node.reads ? "reads" : "writes");
      put(node, column.lineX.get(node.channel), y);
      touched.set(node.channel, [...(touched.get(node.channel) || []), y]);
    }
    if (depth % 2 === 0) {
      drawBoxes(scene, units, placed);
      if (queries.has(column.place)) drawArrivals(data, scene, column, depth, heads, placed);
    }
  }
  column.placed = placed;
  for (const each of data.links) if (each.kind === "edge") drawEdge(data, scene, column, each, placed);
  for (const [channel, x] of column.lineX) {
    const heights = touched.get(channel);
    const { written, position } = data.channels.get(channel);
    const ends = column.last && data.nodes.some((node) => node.writes && node.channel === channel);
    const begins = Boolean(written || position);
    scene.rails.push({ x, channel, token: column.place, ends, begins, top: ends ? stages.top - 8 : Math.min(...heights), bottom: begins ? stages.bottom : Math.max(...heights) });
  }
}

// A frame around the nodes of one head.
function drawBoxes(scene, units, placed) {
  for (const members of grouped(units, (node) => node.head).values()) {
    const xs = members.map((node) => placed.get(node.id).x);
    const { y } = placed.get(members[0].id);
    const x = Math.min(...xs) - PILL.width / 2 - 5;
    scene.boxes.push({ head: members[0].head, ids: members.map((node) => node.id), x, y: y - 28, width: Math.max(...xs) + PILL.width / 2 + 5 - x, height: 42 });
  }
}

function drawArrivals(data, scene, column, depth, heads, placed) {
  const shown = heads.filter((head) => 2 * head.layer === depth && hasValue(data, head));
  shown.forEach((head, index) => {
    const place = { x: column.middle + (index - (shown.length - 1) / 2) * ARRIVE, y: scene.stages.at(depth, "arrive") };
    placed.set(`arrive:${head.layer}/${head.head}`, place);
    const most = Math.max(...head.rows[column.place]);
    scene.arrivals.push({ ...place, head, spread: most < scene.look, most });
  });
}

function drawEdge(data, scene, column, each, placed) {
  const source = data.byId.get(each.source);
  const to = placed.get(each.target);
  // A value comes to the writes of the token that looks, from where the head's attention arrives.
  const from = source.kind === "attn.v" ? placed.get(`arrive:${source.layer}/${source.head}`) : placed.get(each.source);
  if (!from || !to) return;
  const half = (from.y - to.y) / 2;
  scene.edges.push({
    source: each.source, target: each.target, weight: each.weight, token: column.place, from, to,
    d: `M${from.x} ${from.y}C${from.x} ${from.y - half} ${to.x} ${to.y + half} ${to.x} ${to.y}`,
  });
}

function drawArcs(data, scene, needed, head) {
  const depth = 2 * head.layer;
  if (!hasValue(data, head) || !needed.byDepth.has(depth)) return;
  const values = data.nodes.filter((node) => node.kind === "attn.v" && node.layer === head.layer && node.head === head.head);
  for (const query of needed.byDepth.get(depth).queries) {
    const to = scene.columns[query].placed.get(`arrive:${head.layer}/${head.head}`);
    head.rows[query].forEach((weight, key) => {
      if (weight < scene.look) return;
      const starts = values.map((node) => scene.columns[key].placed.get(node.id));
      const x = starts.reduce((sum, each) => sum + each.x, 0) / starts.length;
      const y = starts[0].y - 28;
      // Those of other heads and keys that come to the same token run above each other.
      const lift = Math.min(y - 8, to.y + 8 + 9 * scene.arcs.filter((arc) => arc.query === query && arc.depth === depth).length);
      const along = Math.abs(to.x - x);
      const label = along < 90 ? { x: x + 8, y: y - 6, anchor: "start" } : { x: x + Math.sign(to.x - x) * 26, y: lift - 5, anchor: to.x > x ? "start" : "end" };
      scene.arcs.push({ head, depth, query, key, weight, ids: values.map((node) => node.id), d: arcPath(x, y, to, lift), label });
    });
  }
}

// Up from the value, along, and into the place where it arrives.
function arcPath(x, y, to, lift) {
  const along = to.x - x;
  if (Math.abs(along) < 60) return `M${x} ${y}C${x} ${(y + to.y) / 2} ${to.x} ${(y + to.y) / 2} ${to.x} ${to.y}`;
  const turn = Math.sign(along) * 18;
  return `M${x} ${y}C${x} ${lift} ${x} ${lift} ${x + turn} ${lift}L${to.x - turn} ${lift}Q${to.x} ${lift} ${to.x} ${to.y}`;
}
