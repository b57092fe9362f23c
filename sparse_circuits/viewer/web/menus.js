// The menu that saves and copies, and the help.
import { html, useLayoutEffect, useRef, useState } from "./html.js";
import { asPng, currentFigure, download, pageWith } from "./figure.js";

export function Save({ data, store }) {
  const [open, setOpen] = useState(false);
  const [said, setSaid] = useState("");
  const box = useRef(null);
  // At once: an effect after painting would miss a key that comes quickly.
  useLayoutEffect(() => {
    if (!open) return undefined;
    const close = (event) => {
      if (event.type === "keydown" ? event.key === "Escape" : !box.current.contains(event.target)) setOpen(false);
    };
    window.addEventListener("pointerdown", close);
    window.addEventListener("keydown", close);
    return () => {
      window.removeEventListener("pointerdown", close);
      window.removeEventListener("keydown", close);
    };
  }, [open]);
  const name = data.circuit.title.replace(/[^\w.-]+/g, "_");
  const doing = (work) => async () => {
    try {
      setSaid((await work()) || "");
      setOpen(false);
    } catch (error) {
      setSaid(`It did not work: ${error.message}`);
    }
  };
  const figure = () => {
    const found = currentFigure();
    if (!found) throw new Error("this view has no figure; open Circuit, Unrolled or Size and loss");
    return found;
  };
  return html`<div class="menu" ref=${box}><button aria-expanded=${open} aria-haspopup="true" onClick=${() => { setOpen(!open); setSaid(""); }}>Save</button>
    ${open && html`<div>
      <button onClick=${doing(() => download(figure().text, `${name}.svg`, "image/svg+xml"))}>Figure as SVG</button>
      <button onClick=${doing(async () => { const { text, box } = figure(); download(await asPng(text, box), `${name}.png`, "image/png"); })}>Figure as PNG</button>
      <button onClick=${doing(async () => download(await pageWith(store.get()), `${name}.html`, "text/html"))}>Page with my pins and notes</button>
      <button onClick=${doing(async () => { store.flush(); await navigator.clipboard.writeText(location.href); return "The link is copied."; })}>Copy link to this state</button>
    </div>`}
    <span class=${said.startsWith("It did") ? "problem" : "visually-hidden"} role="status">${said}</span></div>`;
}

const KEYS = [
  ["/", "search"], ["arrows", "go from node to node in the graph"], ["p", "pin or unpin the open node"], ["Esc", "close the node"],
  ["Ctrl Z", "undo (with Shift: redo)"], ["+ − 0", "zoom the graph, show all of it"], ["?", "this help"],
];

export function Help({ views }) {
  const dialog = useRef(null);
  useLayoutEffect(() => {
    const listen = (event) => {
      if (event.key === "?" && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && !dialog.current.open) dialog.current.showModal();
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, []);
  return html`<button aria-label="Help" title="Help (?)" onClick=${() => dialog.current.showModal()}>?</button>
    <dialog ref=${dialog} aria-label="Help"><h2>How to read this page</h2>
      <p>Text flows from left to right. Tokens write to channels of the <b>residual stream</b> (grey lines); a sublayer <b>reads</b> some of them (open circles), its <b>heads</b> or <b>neurons</b> (hexagons) combine them, and it <b>writes</b> to others (filled circles); at the right, logits read what is there. Every coloured line is one weight of the model: blue is positive, orange negative, as wide as it is large.</p>
      <p>In a head, <b>q</b> of the token that looks and <b>k</b> of those it can look at are multiplied; that decides from where its <b>v</b> channels are carried over. Every other node of the model is held at a fixed value.</p>
      <p>Larger circles and rings: removing that node alone costs more. Point at a node to see every path through it, click it to open it.</p>
      <table><tbody>${views.map(([, name], index) => html`<tr><td><kbd>${index + 1}</kbd></td><td>${name}</td></tr>`)}${KEYS.map(([key, what]) => html`<tr><td><kbd>${key}</kbd></td><td>${what}</td></tr>`)}</tbody></table>
      <p><button autofocus onClick=${() => dialog.current.close()}>Close</button></p></dialog>`;
}
