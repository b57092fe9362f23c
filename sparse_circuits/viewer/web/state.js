// What the user has chosen, kept in the page's address so that a link or a reload brings it back, with undo.

const FRESH = {
  view: "circuit", circuit: 0, other: null, node: null, channel: null, pins: [], groups: [], notes: {},
  strength: 0, cost: 0, size: null, zoom: null, pair: 0, theme: "auto", empty: false, tab: "text",
};
const UNDOABLE = ["pins", "groups", "notes", "strength", "cost", "size"];
const LIMIT = 200;

export function createStore(saved, history = window.history, place = window.location) {
  let state = { ...FRESH, ...valid(saved || {}), ...fromHash(place.hash) };
  const listeners = new Set();
  const past = [];
  const future = [];
  let timer = 0;
  let last = { changed: "", at: 0 };
  const tell = () => {
    for (const listener of listeners) listener(state);
    clearTimeout(timer);
    timer = setTimeout(() => write(), 150);
  };
  const write = () => {
    const hash = toHash(state);
    if (hash === place.hash) return;
    try {
      history.replaceState(null, "", hash || place.pathname + place.search);
    } catch {
      // A page inside a notebook's frame has no address of its own to keep this in.
    }
  };
  return {
    get: () => state,
    set(change) {
      const changed = UNDOABLE.filter((key) => key in change && change[key] !== state[key]).join();
      if (changed) {
        // A slider that is dragged is one step.
        const now = performance.now();
        if (!(changed === last.changed && now - last.at < 500 && (changed === "strength" || changed === "cost" || changed === "size"))) past.push(pick(state));
        last = { changed, at: now };
        if (past.length > LIMIT) past.shift();
        future.length = 0;
      }
      state = { ...state, ...change };
      tell();
    },
    undo: () => step(past, future),
    redo: () => step(future, past),
    canUndo: () => past.length > 0,
    canRedo: () => future.length > 0,
    flush: write,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    reread() {
      state = { ...FRESH, theme: state.theme, ...fromHash(place.hash) };
      tell();
    },
  };

  function step(from, to) {
    if (!from.length) return;
    to.push(pick(state));
    state = { ...state, ...from.pop() };
    tell();
  }
}

const pick = (state) => Object.fromEntries(UNDOABLE.map((key) => [key, state[key]]));

// The address after "#": only what differs from a fresh page.
export function toHash(state) {
  const parts = new URLSearchParams();
  for (const [key, fresh] of Object.entries(FRESH)) {
    const value = state[key];
    if (JSON.stringify(value) === JSON.stringify(fresh)) continue;
    parts.set(key, typeof value === "string" ? value : JSON.stringify(value));
  }
  const text = parts.toString();
  return text ? `#${text}` : "";
}

export function fromHash(hash) {
  const found = {};
  for (const [key, text] of new URLSearchParams((hash || "").replace(/^#/, ""))) {
    if (!Object.hasOwn(FRESH, key)) continue;
    try {
      found[key] = JSON.parse(text);
    } catch {
      found[key] = text;
    }
    if (typeof FRESH[key] === "string" || key === "node") found[key] = text;
  }
  return valid(found);
}

const isStrings = (value) => Array.isArray(value) && value.every((item) => typeof item === "string");
const RULES = {
  view: (value) => ["circuit", "unrolled", "channel", "sizes", "card", "model", "compare", "live"].includes(value),
  circuit: (value) => Number.isInteger(value) && value >= 0,
  other: (value) => value === null || (Number.isInteger(value) && value >= 0),
  node: (value) => value === null || typeof value === "string",
  channel: (value) => value === null || Number.isInteger(value),
  pins: isStrings,
  groups: (value) => Array.isArray(value) && value.every((each) => each && typeof each.name === "string" && isStrings(each.nodes)),
  notes: (value) => value && typeof value === "object" && !Array.isArray(value) && isStrings(Object.values(value)),
  strength: Number.isFinite,
  cost: Number.isFinite,
  size: (value) => value === null || Number.isInteger(value),
  zoom: (value) => value === null || (Array.isArray(value) && value.length === 3 && value.every(Number.isFinite) && value[2] > 0),
  pair: (value) => Number.isInteger(value) && value >= 0,
  theme: (value) => ["auto", "light", "dark"].includes(value),
  empty: (value) => typeof value === "boolean",
  tab: (value) => typeof value === "string",
};

// Only what is of the right kind: an address can be mistyped, and a page can be of another version.
export function valid(found) {
  return Object.fromEntries(Object.entries(found).filter(([key, value]) => RULES[key] && RULES[key](value)));
}

// What the pointer or the keyboard is over; apart from the state, since it changes many times a second.
export const hover = {
  id: null,
  listeners: new Set(),
  set(id) {
    if (id === hover.id) return;
    hover.id = id;
    for (const listener of hover.listeners) listener(id);
  },
  subscribe(listener) {
    hover.listeners.add(listener);
    return () => hover.listeners.delete(listener);
  },
};
