// Tokens as a line of text, each shaded by a node's value on one scale, with the number on hover.
import { html } from "./html.js";
import { signed } from "./format.js";

// A background for `value`, where `scale` is the largest size on the page's part: blue above zero, orange below.
export function shade(value, scale) {
  if (!value || !scale) return "transparent";
  const alpha = Math.min(1, Math.abs(value) / scale) * 0.62;
  return `rgb(var(${value < 0 ? "--neg-rgb" : "--pos-rgb"}) / ${alpha.toFixed(3)})`;
}

// `from` is the place of the first token shown; `at` the place of the one in question, which gets an outline.
export function Strip({ model, tokens, values, scale, from = 0, at = -1, lead = false }) {
  return html`<p class="strip">${lead && from > 0 && html`<span class="ghost">…</span>`}${tokens.map((token, index) => html`<span
      class=${from + index === at ? "at" : null} style=${{ background: shade(values[index], scale) }}
      title=${`${signed(values[index])} at token ${from + index}`}>${spelled(model.tokens[token])}</span>`)}</p>`;
}

// Line ends are shown and make a line end; other spaces stand as they are.
export function spelled(token) {
  return token.replace(/\\n/g, "↵\n").replace(/\\t/g, "⇥").replace(/\\\\/g, "\\");
}
