// The page: opens the bundle (inside the file, or from the server), checks it, and shows the views.
import { html, render, useEffect, useMemo, useRef, useState } from "./html.js";
import { CardView } from "./cardview.js";
import { ChannelView } from "./channelview.js";
import { CircuitView } from "./circuit.js";
import { CompareView } from "./compare.js";
import { pathThrough, prepare, search } from "./data.js";
import { describe, plain } from "./format.js";
import { Help, Save } from "./menus.js";
import { LiveView } from "./live.js";
import { ModelView } from "./modelview.js";
import { NodePanel, pin } from "./nodepanel.js";
import { refusal } from "./schema.js";
import { SizesView } from "./sizes.js";
import { createStore, hover } from "./state.js";
import { Unrolled } from "./unrolled.js";

const VIEWS = [["circuit", "Circuit"], ["unrolled", "Unrolled"], ["channel", "Embedding"], ["sizes", "Size and loss"], ["card", "Report"], ["model", "Model"], ["compare", "Compare"], ["live", "Live"]];

// Views that show the task's pairs have nothing to show where a bundle has none.
const OTHERS = { unrolled: Unrolled, channel: ChannelView, sizes: SizesView, card: CardView, model: ModelView, compare: CompareView, live: LiveView };

const PAIRED = new Set(["unrolled", "live"]);
const NoPairs = () => html`<div class="scroll" tabindex="0"><p class="message">This bundle holds none of the task's pairs.</p></div>`;

async function start() {
  const app = document.getElementById("app");
  let bundle;
  let store;
  try {
    const [found, schema] = await Promise.all([read("bundle", "api/bundle"), read("schema", "web/schema.json")]);
    const refused = refusal(found, schema);
    if (refused) throw new Error(refused);
    bundle = found;
    const saved = document.getElementById("state");
    store = createStore(saved ? JSON.parse(saved.textContent) : {});
  } catch (error) {
    render(html`<div class="message" role="alert"><h2>This page cannot show its circuit</h2><p>${error.message}</p></div>`, clear(app));
    return;
  }
  if (store.get().circuit >= bundle.circuits.length) store.set({ circuit: 0 });
  window.addEventListener("hashchange", () => store.reread());
  render(html`<${Page} bundle=${bundle} store=${store} />`, clear(app));
  requestAnimationFrame(() => setTimeout(() => performance.mark("shown")));
}

function clear(element) {
  element.textContent = "";
  return element;
}

async function read(id, address) {
  const inside = document.getElementById(id);
  if (inside) return JSON.parse(inside.textContent);
  const response = await fetch(address);
  if (!response.ok) throw new Error(`The server answered ${response.status} for ${address}.`);
  return response.json();
}

function Page({ bundle: first, store }) {
  const [bundle, setBundle] = useState(first);
  const [state, setState] = useState(store.get());
  const [changes, setChanges] = useState({});
  const served = !document.getElementById("bundle");
  const reload = async () => setBundle(await read("bundle", "api/bundle"));
  useEffect(() => store.subscribe(setState), []);
  const place = Math.min(state.circuit, bundle.circuits.length - 1);
  const data = useMemo(() => prepare(bundle, place), [bundle, place]);
  const off = useMemo(() => Object.fromEntries(Object.entries(changes).map(([id, change]) => [id, change.kind === "off"])), [changes]);
  useEffect(() => setChanges({}), [place]);
  useTheme(state.theme);
  useLitRows(data);
  useKeys(store, data);
  useEffect(() => { document.title = `${data.circuit.title} – circuits`; }, [data]);
  const wide = state.view === "compare"; // two graphs need the room
  return html`<div class=${wide ? "page wide" : "page"}>
    <${Header} bundle=${bundle} data=${data} state=${state} store=${store} />
    <main>
      ${state.view === "circuit" && html`<${Filters} data=${data} state=${state} store=${store} />
        <${CircuitView} data=${data} state=${state} store=${store} live=${off} />`}
      ${OTHERS[state.view] && html`<${PAIRED.has(state.view) && !data.circuit.pairs.length ? NoPairs : OTHERS[state.view]} key=${`${state.view} ${place}`} bundle=${bundle} data=${data} state=${state} store=${store} served=${served} reload=${reload} changes=${changes} setChanges=${setChanges} />`}
    </main>
    ${!wide && html`<aside aria-label="Node"><${NodePanel} data=${data} state=${state} store=${store} /></aside>`}
    <div class="visually-hidden" role="status" aria-live="polite">${state.node && data.byId.has(state.node) ? `${state.node}, ${describe(data.byId.get(state.node))}` : ""}</div>
  </div>`;
}

// Rows of lists that lie on the path through the node that is pointed at.
function useLitRows(data) {
  useEffect(() => hover.subscribe((id) => {
    const path = id && data.byId.has(id) ? pathThrough(data, id).nodes : null;
    for (const row of document.querySelectorAll("[data-edge], [data-row]")) {
      row.classList.toggle("lit", Boolean(path && path.has(row.dataset.edge || row.dataset.row)));
    }
  }), [data]);
}

function useTheme(theme) {
  useEffect(() => {
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const apply = () => { document.documentElement.dataset.theme = theme === "auto" ? (dark.matches ? "dark" : "light") : theme; };
    apply();
    dark.addEventListener("change", apply);
    return () => dark.removeEventListener("change", apply);
  }, [theme]);
}

function useKeys(store, data) {
  useEffect(() => {
    const listen = (event) => {
      const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== "range";
      const command = event.ctrlKey || event.metaKey;
      if (command && !typing && event.key.toLowerCase() === "z") {
        event.preventDefault();
        if (event.shiftKey) store.redo();
        else store.undo();
      } else if (command || event.altKey || typing) return;
      else if (event.key === "/") {
        event.preventDefault();
        document.getElementById("search").focus();
      } else if (event.key === "p" && data.byId.has(store.get().node)) pin(store, store.get().node);
      else if (event.key === "Escape") {
        store.set({ node: null });
        hover.set(null);
      } else if (/^[1-9]$/.test(event.key) && VIEWS[event.key - 1]) store.set({ view: VIEWS[event.key - 1][0] });
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, [store, data]);
}

const NEXT = { auto: "light", light: "dark", dark: "auto" };

function Header({ bundle, data, state, store }) {
  return html`<header>
    ${bundle.circuits.length > 1
      ? html`<select aria-label="Circuit" onChange=${(event) => store.set({ circuit: Number(event.target.value), node: null, zoom: null })}>${bundle.circuits.map((circuit, index) => html`<option value=${index} selected=${index === data.place}>${circuit.title}</option>`)}</select>`
      : html`<h1 class="title">${data.circuit.title}</h1>`}
    <nav aria-label="Views">${VIEWS.map(([key, name], index) => html`<button aria-current=${state.view === key ? "page" : null} title=${`${name} (${index + 1})`} onClick=${() => store.set({ view: key })}>${name}</button>`)}</nav>
    <span class="space"></span>
    <${Search} data=${data} state=${state} store=${store} />
    <button class="plain" aria-label="Undo" title="Undo (Ctrl+Z)" disabled=${!store.canUndo()} onClick=${store.undo}>↶</button>
    <button class="plain" aria-label="Redo" title="Redo (Ctrl+Shift+Z)" disabled=${!store.canRedo()} onClick=${store.redo}>↷</button>
    <button class="plain" aria-label=${`Theme: ${state.theme}`} title=${`Theme: ${state.theme}`} onClick=${() => store.set({ theme: NEXT[store.get().theme] })}>${{ auto: "◐", light: "☀", dark: "☾" }[state.theme]}</button>
    <${Save} data=${data} store=${store} />
    <${Help} views=${VIEWS} />
  </header>`;
}

function Search({ data, state, store }) {
  const [query, setQuery] = useState("");
  const box = useRef(null);
  const found = query ? search(data, query, state.notes) : [];
  const choose = (node) => {
    setQuery("");
    store.set({ node: node.id });
    hover.set(node.id);
  };
  const key = (event) => {
    if (event.key === "Escape") setQuery("");
    if (event.key === "Enter" && found.length) choose(found[0]);
    if (event.key === "ArrowDown") {
      const first = box.current.querySelector("li button");
      if (first) first.focus();
      event.preventDefault();
    }
  };
  return html`<div class="search" ref=${box} role="search">
    <input id="search" type="search" placeholder="Search ( / )" aria-label="Search nodes and tokens" value=${query} onInput=${(event) => setQuery(event.target.value)} onKeyDown=${key} />
    ${query && html`<ul class="results" aria-label="Found nodes">${found.slice(0, 30).map((node) => html`<li><button onClick=${() => choose(node)} onMouseEnter=${() => hover.set(node.id)}><span class="mono">${node.id}</span> <span class="soft">${describe(node)}</span></button></li>`)}
      ${!found.length && html`<li class="soft">nothing found</li>`}</ul>`}
  </div>`;
}

function Filters({ data, state, store }) {
  const most = data.largestCost;
  return html`<div class="bar">
    <label>weights ≥ <input type="range" min="0" max="1" step="0.02" value=${state.strength} onInput=${(event) => store.set({ strength: Number(event.target.value) })} /><output>${state.strength ? plain(state.strength * data.largest, 2) : "all"}</output></label>
    <label>node cost ≥ <input type="range" min="0" max="1" step="0.02" value=${Math.sqrt(state.cost / most)} onInput=${(event) => store.set({ cost: Number(event.target.value) ** 2 * most })} /><output>${state.cost ? plain(state.cost, 2) : "all"}</output></label>
    <label><input type="checkbox" checked=${state.empty} onChange=${(event) => store.set({ empty: event.target.checked })} /> empty layers</label>
  </div>`;
}

start();
