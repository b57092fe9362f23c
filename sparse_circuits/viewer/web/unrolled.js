// The Unrolled view: one prompt of the task through the circuit, as a figure.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./html.js";
import { pairName, pathThrough } from "./data.js";
import { describe, percent, plain, signed, visible } from "./format.js";
import { widthOf } from "./lines.js";
import { hover } from "./state.js";
import { shade } from "./tokens.js";
import { placeNumbers } from "./unrolledlabels.js";
import { PILL, trimmed, unroll } from "./unrolledlayout.js";

const READABLE = 0.85; // a figure that would have to be smaller is scrolled through from top to bottom

export function Unrolled({ data: whole, state, store }) {
  const [side, setSide] = useState(0);
  const [inside, setInside] = useState("circuit");
  const [numbers, setNumbers] = useState(true);
  const place = Math.min(state.pair, whole.circuit.pairs.length - 1);
  const data = useMemo(() => trimmed(whole, place), [whole, place]);
  const [look, setLook] = useState(0.1);
  const [zoom, setZoom] = useState(null);
  const scene = useMemo(() => unroll(data, place, side, inside, look), [data, place, side, inside, look]);
  const figure = useRef(null);
  useLight(figure, data, state.node);
  const active = useMemo(() => activity(whole, place), [whole, place]);
  const grey = useMemo(() => new Set(scene.edges.filter((edge) => greyed(data, scene, edge, active))), [data, scene, active]);
  const written = useMemo(() => (numbers ? placeNumbers(scene, scene.edges.filter((edge) => !grey.has(edge))) : new Map()), [scene, grey, numbers]);
  const unwritten = numbers ? scene.edges.length - grey.size - written.size : 0;
  const [room, setRoom] = useState({ width: 840, height: 700 });
  useEffect(() => {
    const watching = new ResizeObserver(([entry]) => setRoom(entry.contentRect));
    watching.observe(figure.current);
    return () => watching.disconnect();
  }, []);
  useLayoutEffect(() => { figure.current.scrollLeft = figure.current.scrollWidth; }, [data]); // to the answer
  const scale = zoom ?? Math.max(0.5, Math.min(1.3, room.width / scene.width, Math.max(READABLE, room.height / scene.height)));
  return html`<div class="bar">
      <label>pair <select value=${place} onChange=${(event) => store.set({ pair: Number(event.target.value) })}>${data.circuit.pairs.map((_, index) => html`<option value=${index} selected=${index === place}>${pairName(data, index)}</option>`)}</select></label>
      <span role="group" aria-label="Side"><button aria-pressed=${side === 0} onClick=${() => setSide(0)}>side A</button> <button aria-pressed=${side === 1} onClick=${() => setSide(1)}>side B</button></span>
      <span role="group" aria-label="Values of"><button aria-pressed=${inside === "circuit"} onClick=${() => setInside("circuit")}>circuit</button> <button aria-pressed=${inside === "model"} onClick=${() => setInside("model")}>model</button></span>
      <label>attention ≥ <input type="range" min="0.02" max="0.5" step="0.01" value=${look} onInput=${(event) => setLook(Number(event.target.value))} /><output>${look.toFixed(2)}</output></label>
      <label><input type="checkbox" checked=${numbers} onChange=${(event) => setNumbers(event.target.checked)} /> weights</label>
    </div>
    <div class="scroll figure" tabindex="0" ref=${figure} data-view="unrolled">
      <svg class="unrolled" width=${scene.width * scale} height=${scene.height * scale} viewBox=${`0 0 ${scene.width} ${scene.height}`} role="img" aria-label=${`The circuit over ${scene.length} tokens, side ${"AB"[side]} of pair ${place + 1}`}>
        <${Rails} scene=${scene} data=${data} />
        <${Tokens} scene=${scene} data=${data} />
        ${scene.boxes.map((box) => html`<g class="box" data-ids=${box.ids.join(" ")}><rect x=${box.x} y=${box.y} width=${box.width} height=${box.height} rx="9" /><text x=${box.x + 6} y=${box.y + 11}>head ${box.head}</text></g>`)}
        ${scene.arcs.map((arc) => html`<${Arc} arc=${arc} />`)}
        ${scene.arrivals.map((each) => html`<g class="arrival"><circle class=${each.spread ? "spread" : ""} cx=${each.x} cy=${each.y} r="3.6"><title>${`head ${each.head.head} of layer ${each.head.layer}: looks at ${each.spread ? `no token with more than ${plain(each.most)}, so what it carries is a mixture` : `one token with ${plain(each.most)}`}`}</title></circle>${each.spread && html`<text x=${each.x + 7} y=${each.y + 14}>head ${each.head.head}: spread</text>`}</g>`)}
        ${scene.edges.map((edge) => html`<${Edge} edge=${edge} data=${data} grey=${grey.has(edge)} />`)}
        ${scene.nodes.map((each) => html`<${Place} each=${each} active=${active} selected=${state.node === each.id} store=${store} />`)}
        ${[...written].map(([edge, at]) => html`<text class=${`amount ${edge.weight < 0 ? "neg" : "pos"}`} data-ids=${`${edge.source} ${edge.target}`} x=${at.x} y=${at.y} text-anchor="middle">${signed(edge.weight, 2)}</text>`)}
        <${Answer} scene=${scene} data=${data} />
      </svg>
      ${data !== whole && html`<p class="soft">Of ${whole.nodes.length} nodes the ${data.nodes.length} are drawn that ${data.by}.</p>`}
      ${unwritten > 0 && html`<p class="soft">${unwritten} of ${scene.edges.length - grey.size} weights have no room for their numbers; point at a line to read its.</p>`}
    </div>
    <div class="zoom"><button aria-label="Smaller" onClick=${() => setZoom(scale * 0.8)}>−</button><button aria-label="Larger" onClick=${() => setZoom(scale * 1.25)}>+</button><button onClick=${() => setZoom(null)}>Fit</button></div>`;
}

// By node, the largest distance from what it is held at over both sides: the scale of its shading, and of being active.
function activity(data, place) {
  return data.nodes.map((node) => {
    let size = 1e-9;
    let away = 1e-9;
    for (const side of data.circuit.pairs[place].sides) {
      for (const value of [...side.circuit.values[node.index], ...side.model.values[node.index]]) {
        size = Math.max(size, Math.abs(value));
        away = Math.max(away, Math.abs(value - node.held));
      }
    }
    return { size, away };
  });
}

const isActive = (active, node, value) => Math.abs(value - node.held) >= 0.08 * active[node.index].away;

function useLight(figure, data, selected) {
  useEffect(() => {
    const light = (id) => {
      const path = id && data.byId.has(id) ? pathThrough(data, id).nodes : null;
      const svg = figure.current && figure.current.querySelector("svg");
      if (!svg) return;
      svg.classList.toggle("lighting", Boolean(path));
      for (const each of svg.querySelectorAll("[data-ids]")) each.classList.toggle("lit", Boolean(path && each.dataset.ids.split(" ").every((one) => path.has(one))));
    };
    light(hover.id);
    return hover.subscribe((id) => light(id || null));
  }, [data, selected]);
}

function Rails({ scene, data }) {
  const { stages } = scene;
  return html`<g class="rails">${scene.rails.map((rail) => {
    const name = `${data.channels.get(rail.channel).position ? "position channel" : "residual channel"} ${rail.channel}`;
    const ends = [rail.begins && stages.bottom + 4, rail.ends && stages.top - 12];
    return html`<g><line x1=${rail.x} x2=${rail.x} y1=${rail.top} y2=${rail.bottom}><title>${name}</title></line>
      ${ends.map((y, top) => y && html`<text class="rail" x=${rail.x} y=${y} text-anchor=${top ? "start" : "end"} transform=${`rotate(-90 ${rail.x} ${y}) translate(0 3)`}>${rail.channel}</text>`)}</g>`;
  })}
    ${[...stages.byDepth].map(([depth, stage]) => html`<text class="layer" x="6" y=${stages.at(depth, "units")} transform=${`rotate(-90 12 ${stages.at(depth, "units")})`}>layer ${Math.floor(depth / 2)} ${stage.attention ? "attention" : "MLP"}</text>`)}</g>`;
}

function Tokens({ scene, data }) {
  return scene.columns.map((column) => {
    const { middle } = column;
    const y = scene.stages.bottom + (column.wide ? 42 : 14);
    const text = visible(data.model.tokens[column.token]);
    return html`<g class=${`word ${column.wide ? "" : "grey"} ${column.last ? "last" : ""}`}>
      <text class="token" x=${middle} y=${y} text-anchor=${column.wide ? "middle" : "end"} transform=${column.wide ? null : `rotate(-60 ${middle} ${y})`}>${text}</text>
      ${column.wide && html`<text class="place" x=${middle} y=${y + 15} text-anchor="middle">token ${column.place}</text>`}
    </g>`;
  });
}

function Arc({ arc }) {
  const name = `head ${arc.head.head}`;
  return html`<g class="arc" data-ids=${arc.ids.join(" ")}><path d=${arc.d} style=${{ strokeWidth: `${0.8 + 5 * arc.weight}px` }}><title>${`${name} of layer ${arc.head.layer}: token ${arc.query} looks at token ${arc.key} with ${plain(arc.weight)}`}</title></path>
    ${arc.weight > 0.04 && html`<text x=${arc.label.x} y=${arc.label.y} text-anchor=${arc.label.anchor}>${name}: ${plain(arc.weight, 2)}</text>`}</g>`;
}

// A line that carries what it would carry with its source removed.
function greyed(data, scene, edge, active) {
  const node = data.byId.get(edge.source);
  if (node.kind === "attn.v") return false;
  return !isActive(active, node, scene.prompt[scene.inside].values[node.index][edge.token]);
}

function Edge({ edge, data, grey }) {
  return html`<g class=${`edge ${grey ? "grey" : edge.weight < 0 ? "neg" : "pos"}`} data-ids=${`${edge.source} ${edge.target}`}>
    <path d=${edge.d} style=${{ strokeWidth: `${widthOf(edge.weight, data.largest)}px` }}><title>${`${edge.source} to ${edge.target}: ${signed(edge.weight)}`}</title></path></g>`;
}

const LETTER = { "attn.q": "q", "attn.k": "k", "attn.v": "v", "mlp.post_act": "" };

function Place({ each, active, selected, store }) {
  const { node, pill } = each;
  const grey = !isActive(active, node, each.value);
  const shape = pill ? { x: -PILL.width / 2, y: -PILL.height / 2, width: PILL.width, height: PILL.height, rx: PILL.height / 2 } : { x: -4.2, y: -4.2, width: 8.4, height: 8.4, rx: 4.2 };
  return html`<g class=${`at ${grey ? "grey" : ""} ${selected ? "selected" : ""} ${node.writes ? "writes" : ""}`} data-ids=${each.id} data-at=${`${each.id}@${each.token}`} transform=${`translate(${each.x} ${each.y})`}
      onClick=${() => store.set({ node: each.id })} onMouseEnter=${() => hover.set(each.id)} onMouseLeave=${() => hover.set(null)}>
    <rect class="back" ...${shape} /><rect class="body" ...${shape} style=${{ fill: shade(each.value, active[node.index].size * 0.75) }} />
    ${pill && html`<text y="3.5" text-anchor="middle">${LETTER[node.kind]}${node.head === null ? node.channel : node.within}</text>`}
    <title>${`${each.id} at token ${each.token}: ${signed(each.value)} (held at ${signed(node.held)} when removed)\n${describe(node)}`}</title></g>`;
}

// The two completions at the end: logits and probabilities between the two.
function Answer({ scene, data }) {
  const column = scene.columns[scene.columns.length - 1];
  const answer = scene.prompt[scene.inside];
  const probability = Math.exp(-answer.loss);
  const rows = [["right", probability], ["wrong", 1 - probability]];
  const x = column.middle - 60;
  return html`<g class="answer">${rows.map(([key, share], index) => {
    const token = scene.prompt[key];
    const name = token < 0 ? "anything else" : visible(data.model.tokens[token]);
    return html`<g transform=${`translate(${x} ${10 + index * 19})`}><rect width=${120 * share} height="13" class=${key} /><rect class="frame" width="120" height="13" /><text x="128" y="11"><tspan class="token">${name}</tspan><tspan class="soft">  ${percent(share)}, logit ${signed(answer[key])}</tspan></text></g>`;
  })}</g>`;
}
