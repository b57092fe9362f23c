// A plot of curves: logarithmic or linear axes, with as few lines as tell the story.
import { html } from "./html.js";
import { plain } from "./format.js";

const SIZE = { width: 640, height: 330, left: 54, right: 16, top: 14, bottom: 40 };

export function axis(low, high, log) {
  const map = log ? Math.log10 : (value) => value;
  const [from, to] = [map(low), map(high)];
  return (value) => (to === from ? 0.5 : (map(Math.max(value, log ? low : -Infinity)) - from) / (to - from));
}

export function ticks(low, high, log) {
  if (log) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const step of Math.log10(high / low) > 2.5 ? [1] : [1, 2, 5]) found.push(step * 10 ** power);
    }
    return found.filter((each) => each >= low * 0.999 && each <= high * 1.001);
  }
  const rough = (high - low) / 5 || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * unit).find((each) => each >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9; value += step) found.push(Number(value.toPrecision(6)));
  return found;
}

// Curves here fall: names of lines stand at the left, where there is room. Given are
// curves: [{points: [[x, y]], class, dots}], lines: [{y, class, name}], marks: [{x, y, class, name}]
export function Plot({ label, x, y, curves, lines = [], marks = [] }) {
  const points = curves.flatMap((curve) => curve.points);
  if (!points.length) return null;
  const range = (values, given, log) => [given.low ?? Math.min(...values.filter((each) => !log || each > 0)), given.high ?? Math.max(...values)];
  const [xLow, xHigh] = range(points.map(([each]) => each), x, x.log);
  const [yLow, yHigh] = range([...points.map(([, each]) => each), ...lines.map((line) => line.y)], y, y.log);
  const across = axis(xLow, xHigh, x.log);
  const up = axis(yLow, yHigh, y.log);
  const px = (value) => SIZE.left + across(value) * (SIZE.width - SIZE.left - SIZE.right);
  const py = (value) => SIZE.height - SIZE.bottom - up(value) * (SIZE.height - SIZE.top - SIZE.bottom);
  return html`<svg class="plot" viewBox=${`0 0 ${SIZE.width} ${SIZE.height}`} role="img" aria-label=${label}>
    ${ticks(xLow, xHigh, x.log).map((each) => html`<g><line class="axis" x1=${px(each)} x2=${px(each)} y1=${SIZE.top} y2=${SIZE.height - SIZE.bottom} /><text x=${px(each)} y=${SIZE.height - SIZE.bottom + 16} text-anchor="middle">${each >= 1000 ? each.toLocaleString("en-US") : String(each)}</text></g>`)}
    ${ticks(yLow, yHigh, y.log).map((each) => html`<g><line class="axis" x1=${SIZE.left} x2=${SIZE.width - SIZE.right} y1=${py(each)} y2=${py(each)} /><text x=${SIZE.left - 6} y=${py(each) + 4} text-anchor="end">${plain(each, 2)}</text></g>`)}
    <text x=${(SIZE.left + SIZE.width) / 2} y=${SIZE.height - 6} text-anchor="middle">${x.name}</text>
    <text x="12" y=${SIZE.height / 2 - 10} text-anchor="middle" transform=${`rotate(-90 12 ${SIZE.height / 2 - 10})`}>${y.name}</text>
    ${lines.map((line) => html`<g><line class=${line.class} x1=${SIZE.left} x2=${SIZE.width - SIZE.right} y1=${py(line.y)} y2=${py(line.y)} /><text x=${SIZE.left + 4} y=${py(line.y) - 5}>${line.name}</text></g>`)}
    ${curves.map((curve) => html`<path class=${`curve ${curve.class || ""}`} d=${curve.points.map(([one, two], index) => `${index ? "L" : "M"}${px(one).toFixed(1)} ${py(two).toFixed(1)}`).join("")} />`)}
    ${curves.filter((curve) => curve.dots).flatMap((curve) => curve.points.map(([one, two, name]) => html`<circle class="dot" cx=${px(one)} cy=${py(two)} r="3.4"><title>${name || `${plain(one)}: ${plain(two)}`}</title></circle>`))}
    ${marks.map((mark) => html`<g class=${mark.class}><circle cx=${px(mark.x)} cy=${py(mark.y)} r="6"><title>${mark.name}</title></circle></g>`)}
  </svg>`;
}
