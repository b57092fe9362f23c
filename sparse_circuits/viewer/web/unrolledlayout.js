// The circuit over the tokens of one prompt, as a schematic. Tokens go from left to right; each that matters has its
// residual channels as a bundle of lines going up, with nodes where they act; attention goes from key to query token.
//
// What matters is found from the end: the last token; then, layer by layer downwards, the tokens that a head of the
// circuit looks at from a token that matters. All other tokens stand narrow and grey.
import { triangle } from "./attention.js";

const LINE = 8; // between residual channels of a bundle
const SLOT = 29; // between the nodes of a sublayer
const ARRIVE = 46; // between the places where heads' attention arrives
const NARROW = 22;
const STAGE = { attention: { reads: 22, units: 136, arrive: 226, writes: 310 }, mlp: { reads: 22, units: 122, writes: 222 } };

// `look`: attention below it is left out.
export function unroll(data, pair, side, inside = "circuit", look = 0.1) {
  const prompt = data.circuit.pairs[pair].sides[side];
  const length = prompt.tokens.length;
  const heads = data.circuit.heads.map((head) => ({ ...head, rows: triangle(head.patterns[pair][side][inside], length) }));
  const depths = [...new Set(data.nodes.map((node) => node.depth))].sort((a, b) => a - b);
  const needed = relevance(data, heads, depths, length, look);
  const channels = bundleOrder(data);
  const columns = placeTokens(data, needed, channels, prompt, length);
  const stages = placeStages(depths);
  const scene = { look, columns, stages, channels, nodes: [], edges: [], arcs: [], arrivals: [], rails: [], prompt, length, inside };
  for (const token of columns) if (token.wide) drawToken(data, scene, needed, token, prompt, heads);
  for (const head of heads) drawArcs(data, scene, needed, head);
  scene.width = columns[columns.length - 1].x + columns[columns.length - 1].width + 150;
  scene.height = stages.height + 120;
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

// Residual channels, those that are written first, then by number; position channels last.
function bundleOrder(data) {
  const written = new Set(data.nodes.filter((node) => node.writes).map((node) => node.channel));
  const rank = (channel) => (channel.position ? 2 : written.has(channel.channel) ? 0 : 1);
  return [...data.channels.values()].sort((a, b) => rank(a) - rank(b) || a.channel - b.channel).map((each) => each.channel);
}

function placeTokens(data, needed, channels, prompt, length) {
  const bundle = (channels.length - 1) * LINE;
  let x = 44;
  return prompt.tokens.map((token, place) => {
    const wide = needed.all.has(place);
    const most = wide ? Math.max(1, ...[...needed.byDepth.keys()].map((depth) => unitsAt(data, needed, depth, place).length)) : 0;
    const width = wide ? Math.max(bundle, (most - 1) * SLOT, 40) + 20 : NARROW;
    const column = { place, token, wide, x, width, middle: x + width / 2, bundle: x + (width - bundle) / 2, last: place === length - 1 };
    x += width + (wide ? 26 : 6);
    return column;
  });
}

// The nodes between reading and writing that a token has: queries where it looks, keys and values where it is looked at.
function unitsAt(data, needed, depth, place) {
  const { queries, keys } = needed.byDepth.get(depth);
  return data.nodes.filter((node) => {
    if (node.depth !== depth || node.reads || node.writes) return false;
    if (node.kind === "attn.q" || node.kind === "mlp.post_act") return queries.has(place);
    return keys.has(place);
  }).sort((a, b) => (a.head ?? 0) - (b.head ?? 0) || a.index - b.index);
}

function placeStages(depths) {
  let y = 0;
  const byDepth = new Map();
  for (const depth of depths) {
    const kind = depth % 2 === 0 ? "attention" : "mlp";
    byDepth.set(depth, { base: y, kind, ...STAGE[kind] });
    y += STAGE[kind].writes + 26;
  }
  return { byDepth, height: y, at: (depth, stage) => 60 + y - byDepth.get(depth).base - byDepth.get(depth)[stage], bottom: 60 + y, top: 46 };
}

function drawToken(data, scene, needed, column, prompt, heads) {
  const { stages, channels } = scene;
  const lineX = new Map(channels.map((channel, index) => [channel, column.bundle + index * LINE]));
  const value = (node) => prompt[scene.inside].values[node.index][column.place];
  const placed = new Map();
  const touched = new Map();
  const put = (node, x, y) => {
    placed.set(node.id, { x, y });
    scene.nodes.push({ id: node.id, node, x, y, value: value(node), token: column.place });
  };
  for (const [depth, { queries }] of needed.byDepth) {
    const units = unitsAt(data, needed, depth, column.place);
    units.forEach((node, index) => put(node, spread(column, units.length, index, SLOT), stages.at(depth, "units")));
    const feeds = new Set(units.flatMap((node) => (data.backward.get(node.id) || []).filter((each) => each.kind === "edge").map((each) => each.source)));
    for (const node of data.nodes) {
      if (node.depth !== depth) continue;
      if ((node.reads && feeds.has(node.id)) || (node.writes && queries.has(column.place))) {
        const y = stages.at(depth, node.reads ? "reads" : "writes");
        put(node, lineX.get(node.channel), y);
        touch(touched, node.channel, y);
      }
    }
    if (depth % 2 === 0 && queries.has(column.place)) {
      const shown = heads.filter((head) => 2 * head.layer === depth && hasValue(data, head));
      shown.forEach((head, index) => {
        const place = { x: spread(column, shown.length, index, ARRIVE), y: stages.at(depth, "arrive") };
        placed.set(`arrive:${head.layer}/${head.head}`, place);
        const most = Math.max(...head.rows[column.place]);
        scene.arrivals.push({ ...place, head, spread: most < scene.look, most });
      });
    }
  }
  column.placed = placed;
  for (const each of data.links) if (each.kind === "edge") drawEdge(data, scene, column, each, placed);
  for (const channel of channels) {
    const node = [...touched.keys()].includes(channel);
    const channelData = data.channels.get(channel);
    const top = column.last && channelIsWritten(data, channel) ? stages.top + 6 : node ? Math.min(...touched.get(channel)) : stages.bottom - 8;
    const bottom = channelData.written || channelData.position ? stages.bottom : node ? Math.max(...touched.get(channel)) : stages.bottom;
    scene.rails.push({ x: lineX.get(channel), top, bottom, channel, token: column.place, used: node });
  }
}

// Places around a column's middle.
const spread = (column, many, index, gap) => column.middle + (index - (many - 1) / 2) * gap;

const channelIsWritten = (data, channel) => data.nodes.some((node) => node.writes && node.channel === channel);

function touch(map, channel, y) {
  if (!map.has(channel)) map.set(channel, []);
  map.get(channel).push(y);
}

function drawEdge(data, scene, column, each, placed) {
  const source = data.byId.get(each.source);
  const target = data.byId.get(each.target);
  const to = placed.get(each.target);
  // A value comes to the writes of the token that looks, from where the head's attention arrives.
  const from = source.kind === "attn.v" ? placed.get(`arrive:${source.layer}/${source.head}`) : placed.get(each.source);
  if (!from || !to) return;
  const half = (from.y - to.y) / 2;
  // Numbers of lines side by side stand at different heights.
  const t = 0.28 + 0.15 * (scene.edges.filter((edge) => edge.token === column.place).length % 4);
  const bend = 3 * t * t - 2 * t * t * t;
  scene.edges.push({
    source: each.source, target: each.target, weight: each.weight, token: column.place,
    d: `M${from.x} ${from.y}C${from.x} ${from.y - half} ${to.x} ${to.y + half} ${to.x} ${to.y}`,
    label: { x: from.x + (to.x - from.x) * bend, y: from.y + (to.y - from.y) * (1.5 * t * (1 - t) + t * t * (1.5 - 0.5 * t)) },
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
      const starts = values.map((node) => scene.columns[key].placed.get(node.id)).filter(Boolean);
      const x = starts.reduce((sum, each) => sum + each.x, 0) / starts.length;
      const y = starts[0].y - 9;
      const lift = to.y + 6 - 15 * scene.arcs.filter((arc) => arc.query === query && arc.key === key && arc.head !== head).length;
      scene.arcs.push({
        head, query, key, weight, ids: values.map((node) => node.id),
        d: arcPath(x, y, to, lift),
        label: { x: x + Math.min(60, (to.x - x) / 2), y: lift - 5 },
        to,
      });
    });
  }
}

// Up from the value, along, and into the place where it arrives.
function arcPath(x, y, to, lift) {
  const along = to.x - x;
  if (Math.abs(along) < 60) return `M${x} ${y}C${x} ${(y + to.y) / 2} ${to.x} ${(y + to.y) / 2} ${to.x} ${to.y}`;
  const turn = Math.sign(along) * 22;
  return `M${x} ${y}C${x} ${lift} ${x} ${lift} ${x + turn} ${lift}L${to.x - turn} ${lift}Q${to.x} ${lift} ${to.x} ${to.y}`;
}
