// A circuit of the bundle, indexed: nodes by name, links in both directions, and the path through a node.
//
// Links are of three kinds: "edge" (a weight), "rail" (the residual stream carries a channel on from where it is written
// to where it is read) and "match" (q and k channels decide where the head's v channels are carried from). The ends of
// rails outside the circuit are "embed:CHANNEL" and "logits:CHANNEL".

export function prepare(bundle, place) {
  const circuit = bundle.circuits[place];
  const model = bundle.models[circuit.model];
  const nodes = circuit.nodes.map((node, index) => describeNode(node, index, model.config));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const channels = new Map(circuit.channels.map((channel) => [channel.channel, channel]));
  const links = [
    ...circuit.edges.map(([source, target, weight]) => link("edge", nodes[source].id, nodes[target].id, weight)),
    ...rails(nodes, channels),
    ...matches(nodes),
  ];
  const forward = new Map();
  const backward = new Map();
  for (const each of links) {
    append(forward, each.source, each);
    append(backward, each.target, each);
  }
  const largest = Math.max(1e-12, ...circuit.edges.map(([, , weight]) => Math.abs(weight)));
  const costs = nodes.map((node) => node.cost).filter((cost) => cost !== null);
  const rank = new Map(circuit.curve.order.map(([site, channel], index) => [`${site}:${channel}`, index]));
  return {
    place, circuit, model, nodes, byId, channels, links, forward, backward, largest, rank,
    largestCost: Math.max(1e-12, ...costs), paths: new Map(),
  };
}

function describeNode(node, index, config) {
  const dot = node.site.indexOf(".");
  const layer = Number(node.site.slice(0, dot));
  const kind = node.site.slice(dot + 1);
  const inHead = kind === "attn.q" || kind === "attn.k" || kind === "attn.v";
  return {
    ...node, index, layer, kind, id: `${node.site}:${node.channel}`,
    head: inHead ? Math.floor(node.channel / config.d_head) : null,
    within: inHead ? node.channel % config.d_head : null,
    reads: kind.endsWith("act_in"), writes: kind.endsWith("resid_delta"),
    position: kind.endsWith("act_in") && node.channel >= config.d_model,
    depth: 2 * layer + (kind.startsWith("mlp") ? 1 : 0),
  };
}

const link = (kind, source, target, weight) => ({ kind, source, target, weight });

function append(map, key, value) {
  if (map.has(key)) map.get(key).push(value);
  else map.set(key, [value]);
}

// The items of a list by a key, in the order of their first.
export function grouped(list, key) {
  const found = new Map();
  for (const item of list) append(found, key(item), item);
  return found;
}

function rails(nodes, channels) {
  const found = [];
  const writers = nodes.filter((node) => node.writes);
  const byChannel = new Map();
  for (const node of writers) append(byChannel, node.channel, node);
  for (const node of nodes.filter((each) => each.reads)) {
    const channel = channels.get(node.channel);
    if (channel && (channel.position || channel.written)) found.push(link("rail", `embed:${node.channel}`, node.id, 0));
    for (const writer of byChannel.get(node.channel) || []) {
      if (writer.depth < node.depth) found.push(link("rail", writer.id, node.id, 0));
    }
  }
  for (const node of writers) found.push(link("rail", node.id, `logits:${node.channel}`, 0));
  return found;
}

function matches(nodes) {
  const values = new Map();
  for (const node of nodes) if (node.kind === "attn.v") append(values, `${node.layer}/${node.head}`, node);
  const found = [];
  for (const node of nodes) {
    if (node.kind !== "attn.q" && node.kind !== "attn.k") continue;
    for (const value of values.get(`${node.layer}/${node.head}`) || []) found.push(link("match", node.id, value.id, 0));
  }
  return found;
}

// Every node and link that lies on a path through `id`: what flows into it and what it flows into.
export function pathThrough(data, id) {
  if (!data.paths.has(id)) {
    const nodes = new Set([id]);
    const links = new Set();
    walk(id, data.backward, (each) => each.source, nodes, links);
    walk(id, data.forward, (each) => each.target, nodes, links);
    data.paths.set(id, { nodes, links });
  }
  return data.paths.get(id);
}

function walk(start, along, next, nodes, links) {
  const seen = new Set([start]);
  const pending = [start];
  while (pending.length) {
    for (const each of along.get(pending.pop()) || []) {
      links.add(each);
      const to = next(each);
      if (seen.has(to)) continue;
      seen.add(to);
      nodes.add(to);
      pending.push(to);
    }
  }
}

// The edges of a node, strongest first.
export function edgesOf(data, id) {
  const weights = (links) => (links || []).filter((each) => each.kind === "edge");
  const order = (links) => [...links].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  return { into: order(weights(data.backward.get(id))), out: order(weights(data.forward.get(id))) };
}

// Nodes whose name, or whose channel's tokens, have all the words of `query`.
export function search(data, query, notes = {}) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  return data.nodes.filter((node) => {
    const text = `${searchable(data, node)} ${(notes[node.id] || "").toLowerCase()}`;
    return words.every((word) => text.includes(word));
  });
}

const texts = new WeakMap();

function searchable(data, node) {
  if (!texts.has(node)) {
    const channel = node.reads || node.writes ? data.channels.get(node.channel) : null;
    const tokens = channel ? [...(node.reads ? channel.writes : []), ...(node.writes ? channel.reads : [])] : [];
    const named = tokens.map(([token]) => data.model.tokens[token]).join(" ");
    texts.set(node, `${node.id} ${node.head === null ? "" : `head ${node.head}`} layer ${node.layer} ${named}`.toLowerCase());
  }
  return texts.get(node);
}

// The tokens of `writes` or `reads` that tell most: those the task's completions and evidence name, then the strongest.
export function telling(data, weighted, named, limit) {
  const first = weighted.filter(([token]) => named.has(token));
  const rest = weighted.filter(([token]) => !named.has(token));
  const strong = (rows) => [...rows].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  return [...strong(first), ...strong(rest)].slice(0, limit);
}

// What a pair is called: the end of its first prompt.
export function pairName(data, place) {
  const text = data.circuit.pairs[place].sides[0].tokens.map((token) => data.model.tokens[token].replace(/\\n/g, "\u21b5")).join("");
  return `${place + 1}: ${text.length > 26 ? `\u2026${text.slice(-25)}` : text}`;
}

// Tokens by which the two sides of the pairs differ, and their completions: what the task turns on.
export function evidence(circuit) {
  const tokens = new Set();
  const completions = new Set();
  for (const pair of circuit.pairs) {
    const [a, b] = pair.sides.map((side) => new Set(side.tokens));
    for (const token of a) if (!b.has(token)) tokens.add(token);
    for (const token of b) if (!a.has(token)) tokens.add(token);
    for (const side of pair.sides) for (const token of [side.right, side.wrong]) if (token >= 0) completions.add(token);
  }
  return { tokens, completions };
}
