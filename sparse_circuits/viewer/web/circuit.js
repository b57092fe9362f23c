// The Circuit view: edges on a canvas, those that are lit on another, nodes in an SVG above; all under one pan and zoom.
import { html, useEffect, useLayoutEffect, useMemo, useRef } from "./html.js";
import { evidence, pathThrough, telling } from "./data.js";
import { describe, plain, signed, visible } from "./format.js";
import { standalone } from "./figure.js";
import { layout, neighbour } from "./layout.js";
import { batches, drawDots, drawLines, litBatches, palette, prepareLines } from "./lines.js";
import { hover } from "./state.js";

const MANY = 3000; // links beyond which a picture of them is moved while the hand moves, and drawn anew after it

export function CircuitView({ data, state, store, live, marked }) {
  const frame = useRef(null);
  const scene = useMemo(() => layout(data, { empty: state.empty }), [data, state.empty]);
  const lines = useMemo(() => prepareLines(scene.lines, data.largest, state.strength), [scene, state.strength]);
  const view = useRef({ x: 0, y: 0, k: 1 });
  const named = useMemo(() => evidence(data.circuit), [data]);
  useLayoutEffect(() => {
    const controller = control(frame.current, { data, scene, lines, view, store, named });
    frame.current.controller = controller;
    return controller.stop;
  }, [data, scene, lines]);
  useEffect(() => {
    if (frame.current.controller) frame.current.controller.repaint();
  }, [state.theme, state.node, state.size, state.cost, live]);
  const shown = useMemo(
    () => html`<g class="scene">
      ${scene.columns.map((column) => html`<${Column} column=${column} scene=${scene} />`)}
      ${scene.heads.map((unit) => html`<${Head} unit=${unit} />`)}
      <${Groups} scene=${scene} groups=${state.groups} />
      ${scene.ends.left.map((end) => html`<${End} end=${end} data=${data} side="left" />`)}
      ${scene.ends.right.map((end) => html`<${End} end=${end} data=${data} side="right" />`)}
      ${data.nodes.map((node) => html`<${Node} node=${node} at=${scene.at.get(node.id)} data=${data} state=${state} off=${live && live[node.id]} shared=${marked && marked.has(node.id)} />`)}
    </g>`,
    [scene, data, state.node, state.pins, state.groups, state.notes, state.cost, state.size, live, marked],
  );
  return html`<div class="graph" ref=${frame} tabindex="0" role="application" aria-roledescription="circuit graph"
      aria-label="The circuit, ${data.nodes.length} nodes. Arrow keys go from node to node, Enter opens one, plus and minus zoom, 0 shows all."
      data-view="circuit">
    <canvas class="base" aria-hidden="true"></canvas><canvas class="over" aria-hidden="true"></canvas>
    <svg aria-hidden="true">${shown}</svg>
    <div class="tip" hidden></div>
    <div class="legend" aria-hidden="true"><span><i class="pos"></i>positive</span><span><i class="neg"></i>negative weight</span><span><i class="rail"></i>residual channel</span><span><i class="match"></i>where to look</span></div>
    <${Zoom} frame=${frame} />
  </div>`;
}

function Zoom({ frame }) {
  const act = (work) => (event) => { event.stopPropagation(); work(frame.current.controller); };
  const quiet = { onPointerDown: (event) => event.stopPropagation(), onPointerUp: (event) => event.stopPropagation(), onDblClick: (event) => event.stopPropagation() };
  return html`<div class="zoom" ...${quiet}><button aria-label="Zoom out" onClick=${act((it) => it.zoom(0.8))}>−</button><button aria-label="Zoom in" onClick=${act((it) => it.zoom(1.25))}>+</button><button onClick=${act((it) => it.fit())}>Fit</button></div>`;
}

function Column({ column, scene }) {
  const top = scene.box.y + 30;
  if (!column.used) {
    const label = column.names.length > 1 ? `${column.names.length} sublayers` : column.names[0];
    return html`<g class="column empty">
      <rect x=${column.x} y=${top + 12} width=${column.width} height=${scene.box.height - 56} rx="6" />
      <text x=${column.x + column.width / 2} y=${scene.box.y + scene.box.height / 2} transform="rotate(-90 ${column.x + column.width / 2} ${scene.box.y + scene.box.height / 2})">${label}: no nodes<title>${column.names.join(", ")}</title></text>
    </g>`;
  }
  const middle = column.units + (column.attention ? 47 : -8);
  return html`<g class="column">
    <text class="heading" x=${column.x + column.width / 2} y=${top}>${column.names[0]}</text>
    <text x=${column.x} y=${top + 18}>reads</text>
    <text x=${middle} y=${top + 18}>${column.attention ? "heads" : "neurons"}</text>
    <text x=${column.writes} y=${top + 18}>writes</text>
  </g>`;
}

function Head({ unit }) {
  const { match, values } = unit;
  const last = values.length ? values[values.length - 1] : match.y;
  const labels = ["attn.q", "attn.k"].some((kind) => unit.members.some((node) => node.kind === kind));
  return html`<g class="head" transform="translate(${unit.x} ${unit.y})">
    <rect width=${unit.width} height=${unit.height} rx="8" />
    <text class="name" x="8" y="14">head ${unit.head}</text>
    ${values.map((y) => html`<path class="gate" d="M${match.x - 4} ${y - 5}L${match.x + 5} ${y}L${match.x - 4} ${y + 5}Z" />`)}
    ${values.length > 0 && html`<path class="looks" d="M${match.x} ${match.y + 8}V${last - 5}" />`}
    <circle class=${labels ? "match" : "match fixed"} cx=${match.x} cy=${match.y} r="9"><title>${labels
      ? "Where the head looks: its queries and keys are multiplied, and the softmax of that says from which tokens the value channels are carried."
      : "No query or key is kept: the head looks where it always does."}</title></circle>
    <text class="sign" x=${match.x} y=${match.y + 3.5}>${labels ? "q\u00b7k" : "="}</text>
  </g>`;
}

function End({ end, data, side }) {
  const id = `${side === "left" ? "embed" : "logits"}:${end.channel}`;
  const x = side === "left" ? -12 : end.x + 12;
  return html`<g class="end ${side}" data-node=${id}>
    <rect class="hit" x=${side === "left" ? -12 - end.width : end.x} y=${end.y - 10} width=${end.width + 12} height="20" />
    <text x=${x} y=${end.y + 4} text-anchor=${side === "left" ? "end" : "start"}>
      ${end.position
        ? html`<tspan class="soft">position wave ${end.channel - data.model.config.d_model}</tspan>`
        : end.rows.map((row) => html`<tspan class=${row.own ? "token" : "token soft"}>${row.token}</tspan><tspan class=${row.negative ? "neg" : "pos"}> ${row.weight}  </tspan>`)}
      ${!end.position && html`<tspan class="soft number">${end.channel}</tspan>`}
    </text>
  </g>`;
}

const LETTER = { "attn.q": "q", "attn.k": "k", "attn.v": "v" };

function Node({ node, at, data, state, off, shared }) {
  const hidden = (state.cost > 0 && node.cost !== null && node.cost < state.cost) || (state.size !== null && !((data.rank.get(node.id) ?? Infinity) < state.size));
  const share = node.cost === null ? 0.3 : Math.sqrt(Math.max(0, node.cost) / data.largestCost);
  const letter = LETTER[node.kind];
  const radius = letter ? 8 : 4 + 3.6 * share;
  const classes = ["node", `site-${node.kind.replace(/\W/g, "-")}`];
  if (hidden) classes.push("filtered");
  if (state.node === node.id) classes.push("selected");
  if (state.pins.includes(node.id)) classes.push("pinned");
  if (off) classes.push("off");
  if (shared) classes.push("shared");
  return html`<g class=${classes.join(" ")} data-node=${node.id} transform="translate(${at.x} ${at.y})">
    <circle class="hit" r="11" />
    ${letter && html`<circle class="cost" r=${8 + 3.4 * share} />`}
    ${node.kind === "mlp.post_act" ? html`<path class="body" d=${hexagon(radius + 2)} />` : html`<circle class="body" r=${radius} />`}
    ${letter && html`<text y="3.5">${letter}</text>`}
    ${(letter || node.kind === "mlp.post_act") && html`<text class="channel" x=${letter ? 14 : 12} y="-6">${letter ? node.within : node.channel}</text>`}
    ${state.pins.includes(node.id) && html`<path class="pin" d="M0 -18l4 5h-8z" />`}
    ${state.notes[node.id] && html`<text class="noted" x="10" y="-10">✎</text>`}
  </g>`;
}

const hexagon = (r) => `M${r} 0L${r / 2} ${r * 0.87}H${-r / 2}L${-r} 0L${-r / 2} ${-r * 0.87}H${r / 2}Z`;

function Groups({ scene, groups }) {
  return groups.map((group) => {
    const places = group.nodes.map((id) => scene.at.get(id)).filter(Boolean);
    if (!places.length) return null;
    const x = Math.min(...places.map((place) => place.x)) - 18;
    const y = Math.min(...places.map((place) => place.y)) - 18;
    const width = Math.max(...places.map((place) => place.x)) + 18 - x;
    const height = Math.max(...places.map((place) => place.y)) + 18 - y;
    return html`<g class="group"><rect x=${x} y=${y} width=${width} height=${height} rx="12" /><text x=${x + 8} y=${y - 4}>${group.name}</text></g>`;
  });
}

// Everything that happens many times a second, without going through the page's state.
function control(frame, { data, scene, lines, view, store, named }) {
  const canvas = frame.querySelector("canvas.base");
  const over = frame.querySelector("canvas.over");
  const svg = frame.querySelector("svg");
  const tip = frame.querySelector(".tip");
  const many = scene.lines.length > MANY;
  let drawn = { ...view.current };
  let pending = 0;
  let settle = 0;
  let lit = null;
  let joined = [];
  frame.classList.toggle("many", many);

  function regroup() {
    const hidden = new Set([...svg.querySelectorAll(".node.filtered, .node.off")].map((each) => each.dataset.node));
    joined = batches(lines, hidden);
    paint();
  }
  function fit() {
    const { width, height } = frame.getBoundingClientRect();
    const k = Math.min(1.6, Math.max(0.02, Math.min(width / scene.box.width, height / scene.box.height)));
    return { k, x: (width - scene.box.width * k) / 2 - scene.box.x * k, y: (height - scene.box.height * k) / 2 - scene.box.y * k };
  }
  function paint() {
    const { width, height } = frame.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    const colours = palette(frame);
    for (const each of [canvas, over]) {
      if (each.width !== Math.round(width * ratio)) each.width = Math.round(width * ratio);
      if (each.height !== Math.round(height * ratio)) each.height = Math.round(height * ratio);
      each.style.transform = "";
    }
    const group = svg.querySelector(".scene");
    if (group) group.setAttribute("transform", `translate(${view.current.x} ${view.current.y}) scale(${view.current.k})`);
    drawLines(canvas.getContext("2d"), joined, view.current, ratio, colours);
    if (many) drawDots(canvas.getContext("2d"), data.nodes.map((node) => scene.at.get(node.id)), colours);
    drawLines(over.getContext("2d"), lit ? lit.joined : [], view.current, ratio, colours);
    drawn = { ...view.current };
    frame.classList.remove("moving");
    frame.classList.toggle("far", view.current.k < 0.55);
  }
  // Of a large circuit only the picture is moved while the hand moves; it is drawn anew when the hand rests.
  function schedule() {
    if (pending) return;
    pending = requestAnimationFrame(() => {
      pending = 0;
      if (!many) return paint();
      const k = view.current.k / drawn.k;
      frame.classList.add("moving");
      canvas.style.transform = over.style.transform = `translate(${view.current.x - drawn.x * k}px, ${view.current.y - drawn.y * k}px) scale(${k})`;
      clearTimeout(settle);
      settle = setTimeout(paint, 250);
      return undefined;
    });
  }
  function move(next, remember = true) {
    view.current = next;
    schedule();
    if (remember) {
      clearTimeout(frame.remembering);
      frame.remembering = setTimeout(() => store.set({ zoom: [next.x, next.y, next.k].map((value) => Math.round(value * 1000) / 1000) }), 200);
    }
  }
  function zoomAt(px, py, factor) {
    const k = Math.min(8, Math.max(0.02, view.current.k * factor));
    const ratio = k / view.current.k;
    move({ k, x: px - (px - view.current.x) * ratio, y: py - (py - view.current.y) * ratio });
  }
  function light(id) {
    const path = id && (data.byId.has(id) || scene.at.has(id)) ? pathThrough(data, id) : null;
    lit = path && { ...path, joined: litBatches(lines, path) };
    frame.classList.toggle("lighting", Boolean(lit));
    for (const each of svg.querySelectorAll("[data-node]")) {
      const on = Boolean(lit && lit.nodes.has(each.dataset.node));
      if (each.classList.contains("lit") !== on) each.classList.toggle("lit", on);
    }
    drawLines(over.getContext("2d"), lit ? lit.joined : [], drawn, window.devicePixelRatio || 1, palette(frame));
  }
  const listeners = pointer(frame, svg, { zoomAt, move, view, tell, store, data });
  function tell(id, event) {
    tip.hidden = !id;
    if (!id) return;
    const bounds = frame.getBoundingClientRect();
    tip.textContent = tipText(data, id, named);
    const x = event.clientX - bounds.left + 14;
    tip.style.left = `${Math.min(x, bounds.width - tip.offsetWidth - 6)}px`;
    tip.style.top = `${Math.min(event.clientY - bounds.top + 14, bounds.height - tip.offsetHeight - 6)}px`;
  }
  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { width, height } = frame.getBoundingClientRect();
    if (event.key.startsWith("Arrow")) {
      const ids = data.nodes.map((node) => node.id);
      const from = store.get().node;
      const next = data.byId.has(from) ? neighbour(scene.at, ids, from, event.key) : ids[0];
      if (next) {
        store.set({ node: next });
        hover.set(next);
        reveal(next);
      }
      event.preventDefault();
    } else if (event.key === "+" || event.key === "=") zoomAt(width / 2, height / 2, 1.25);
    else if (event.key === "-") zoomAt(width / 2, height / 2, 0.8);
    else if (event.key === "0") move(fit());
  }
  function reveal(id) {
    const place = scene.at.get(id);
    const { width, height } = frame.getBoundingClientRect();
    const [x, y] = [place.x * view.current.k + view.current.x, place.y * view.current.k + view.current.y];
    const shift = (at, size) => (at < 40 ? 40 - at : at > size - 40 ? size - 40 - at : 0);
    const [dx, dy] = [shift(x, width), shift(y, height)];
    if (dx || dy) move({ ...view.current, x: view.current.x + dx, y: view.current.y + dy });
  }
  const saved = store.get().zoom;
  view.current = saved ? { x: saved[0], y: saved[1], k: saved[2] } : fit();
  const leave = hover.subscribe(light);
  const watching = new ResizeObserver(() => {
    if (!store.get().zoom) view.current = fit();
    paint();
  });
  watching.observe(frame);
  frame.addEventListener("keydown", key);
  regroup();
  light(hover.id);
  return {
    repaint: regroup,
    figure: () => {
      const colours = palette(frame);
      const drawnLines = lines.map((line) => ({ d: line.d, colour: colours[line.look], width: line.width, dash: line.look === "match" }));
      const group = svg.querySelector(".scene");
      const before = group.getAttribute("transform");
      group.removeAttribute("transform");
      const text = standalone(svg, scene.box, drawnLines);
      group.setAttribute("transform", before);
      return { box: scene.box, text };
    },
    fit: () => { store.set({ zoom: null }); move(fit(), false); },
    zoom: (factor) => { const { width, height } = frame.getBoundingClientRect(); zoomAt(width / 2, height / 2, factor); },
    stop() {
      leave();
      listeners();
      watching.disconnect();
      frame.removeEventListener("keydown", key);
      cancelAnimationFrame(pending);
      clearTimeout(settle);
    },
  };
}

function pointer(frame, svg, { zoomAt, move, view, tell, store, data }) {
  const touching = new Map();
  let moved = 0;
  const idAt = (event) => {
    const each = event.target.closest && event.target.closest("[data-node]");
    return each ? each.dataset.node : null;
  };
  const wheel = (event) => {
    event.preventDefault();
    const bounds = frame.getBoundingClientRect();
    const pixels = event.deltaMode === 1 ? event.deltaY * 20 : event.deltaY;
    zoomAt(event.clientX - bounds.left, event.clientY - bounds.top, Math.exp(-Math.max(-200, Math.min(200, pixels)) * 0.0018));
  };
  const down = (event) => {
    if (event.button) return;
    touching.set(event.pointerId, [event.clientX, event.clientY]);
    moved = 0;
  };
  const drag = (event) => {
    const before = touching.get(event.pointerId);
    if (!before) {
      const id = idAt(event);
      hover.set(id);
      tell(id, event);
      return;
    }
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    moved += Math.abs(dx) + Math.abs(dy);
    if (moved < 4) return;
    if (!frame.hasPointerCapture(event.pointerId)) frame.setPointerCapture(event.pointerId);
    if (touching.size === 2) {
      const [other] = [...touching].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const gap = (x, y) => Math.hypot(x - other[0], y - other[1]) || 1;
      const bounds = frame.getBoundingClientRect();
      zoomAt(other[0] - bounds.left, other[1] - bounds.top, gap(event.clientX, event.clientY) / gap(...before));
    } else move({ ...view.current, x: view.current.x + dx, y: view.current.y + dy });
    touching.set(event.pointerId, [event.clientX, event.clientY]);
  };
  const up = (event) => {
    const was = touching.delete(event.pointerId);
    if (!was || moved >= 4 || event.type === "pointercancel") return;
    const id = idAt(event);
    if (id && id.includes(":") && !data.byId.has(id)) store.set({ channel: Number(id.split(":")[1]), view: "channel" });
    else store.set({ node: id });
  };
  const out = () => { hover.set(null); tell(null); };
  const twice = (event) => { if (!idAt(event)) { const bounds = frame.getBoundingClientRect(); zoomAt(event.clientX - bounds.left, event.clientY - bounds.top, 1.6); } };
  const all = { pointerdown: down, pointermove: drag, pointerup: up, pointercancel: up, pointerleave: out, dblclick: twice };
  frame.addEventListener("wheel", wheel, { passive: false });
  for (const [name, listener] of Object.entries(all)) frame.addEventListener(name, listener);
  return () => {
    frame.removeEventListener("wheel", wheel);
    for (const [name, listener] of Object.entries(all)) frame.removeEventListener(name, listener);
  };
}

function tipText(data, id, named) {
  const node = data.byId.get(id);
  if (node) {
    const cost = node.cost === null ? "" : `\nremoving it costs ${plain(node.cost)} nats`;
    return `${id}\n${describe(node)}${cost}\nheld at ${signed(node.held)} when removed`;
  }
  const [end, number] = id.split(":");
  const channel = data.channels.get(Number(number));
  if (channel.position) return `position channel ${number}: a fixed wave over positions`;
  const rows = telling(data, end === "embed" ? channel.writes : channel.reads, end === "embed" ? named.tokens : named.completions, 6);
  const listed = rows.map(([token, weight]) => `${visible(data.model.tokens[token])} ${signed(weight)}`).join("\n");
  return `residual channel ${number}\n${end === "embed" ? `${channel.written} tokens write to it, such as` : `${channel.read} logits read it, such as`}\n${listed}`;
}
