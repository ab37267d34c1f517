// Control charts as SVG: a small one for each tag, a large one for the chosen tag.

import { decimalsFor, element, measure, shape, signalText, timeOfDay } from "./text.js";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Whether a point has a place on the paper: without a meaning, or not finite, it leaves a gap. */
const drawable = (point) => !point.bad && isNumber(point.value);
const signals = (point) => drawable(point) && Boolean(point.signalled);

/** The value that a share of `values` does not exceed. */
function bulk(values, share) {
  return values.toSorted((a, b) => a - b)[Math.round(share * (values.length - 1))];
}

/**
 * Lowest and highest value shown. The limits decide; points beyond them widen the view as far as
 * the bulk of them goes, but a wild spike may not flatten everything else: it is drawn at the edge.
 */
function extent(chart, points, room) {
  const limits = [chart.lcl, chart.center, chart.ucl].filter(isNumber);
  const values = points.filter(drawable).map((point) => point.value);
  let low = Math.min(...values, ...limits);
  let high = Math.max(...values, ...limits);
  if (limits.length >= 2) {
    const band = Math.max(...limits) - Math.min(...limits);
    if (band > 0) {
      const [most, least] = [bulk(values, 0.95), bulk(values, 0.05)];
      const margin = 0.25 * (most - least);
      low = Math.max(low, Math.min(Math.min(...limits) - room * band, least - margin));
      high = Math.min(high, Math.max(Math.max(...limits) + room * band, most + margin));
    }
  }
  if (!(high > low)) {
    const pad = Math.abs(high) * 0.01 || 1;
    return [low - pad, high + pad];
  }
  const pad = (high - low) * 0.08;
  return [low - pad, high + pad];
}

function scale([low, high], from, to) {
  return (value) => {
    const clamped = Math.min(high, Math.max(low, value));
    return from + ((clamped - low) / (high - low)) * (to - from);
  };
}

function linePath(points, x, y) {
  let pen = "M";
  return points.map((point, i) => {
    if (!drawable(point)) {
      pen = "M";
      return "";
    }
    const step = `${pen}${x(i).toFixed(1)} ${y(point.value).toFixed(1)}`;
    pen = "L";
    return step;
  }).join("");
}

function diamond(x, y, size) {
  return `M${x.toFixed(1)} ${(y - size).toFixed(1)}l${size} ${size}l${-size} ${size}l${-size} ${-size}z`;
}

/** Draws the small chart of a tag into `svg`. */
export function drawSmall(svg, chart, width, height) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const points = chart.points;
  if (!points.some(drawable)) {
    svg.replaceChildren();
    return;
  }
  const y = scale(extent(chart, points, 0.6), height - 3, 3);
  const step = points.length > 1 ? (width - 8) / (points.length - 1) : 0;
  const x = (i) => 4 + i * step;
  const parts = [];
  if (isNumber(chart.lcl) && isNumber(chart.ucl)) {
    const top = y(chart.ucl);
    parts.push(shape("rect", {
      class: "band", x: 0, y: top, width, height: Math.max(1, y(chart.lcl) - top),
    }));
  }
  if (isNumber(chart.center)) {
    parts.push(shape("line", { class: "center", x1: 0, x2: width, y1: y(chart.center), y2: y(chart.center) }));
  }
  parts.push(shape("path", { class: "run", d: linePath(points, x, y) }));
  const marks = points.map((p, i) => (signals(p) ? diamond(x(i), y(p.value), 2.6) : "")).join("");
  if (marks) {
    parts.push(shape("path", { class: "signal", d: marks }));
  }
  svg.replaceChildren(...parts);
}

/** A plain trend of numbers from zero up. */
export function drawTrend(svg, values, width, height) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const points = values.map((value) => ({ value }));
  if (points.length < 2) {
    svg.replaceChildren();
    return;
  }
  const y = scale([0, Math.max(1, ...values) * 1.1], height - 1, 1);
  const x = (i) => width - (points.length - 1 - i) * (width / 59);
  svg.replaceChildren(shape("path", { class: "run", d: linePath(points, x, y) }));
}

/** Round numbers between `low` and `high`, about `wanted` of them. */
function ticks([low, high], wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const out = [];
  for (let n = Math.ceil(low / step); n * step <= high; n += 1) {
    out.push(n * step);
  }
  return out;
}

/** Places labels at least `gap` apart, keeping their order. */
function spread(labels, gap) {
  labels.sort((a, b) => a.y - b.y);
  for (let i = 1; i < labels.length; i += 1) {
    labels[i].y = Math.max(labels[i].y, labels[i - 1].y + gap);
  }
  return labels;
}

/** The large chart in `host`; keeps the pointer's reading across redraws. */
export class ControlChart {
  constructor(host) {
    this.host = host;
    this.svg = shape("svg", { class: "control", role: "img" });
    this.reading = element("div", { class: "reading", hidden: true });
    host.replaceChildren(this.svg, this.reading);
    this.pointer = null;
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.point(null));
    new ResizeObserver(() => this.draw()).observe(host);
  }

  /** Shows `chart`, or nothing; says whether there was something to show. */
  show(chart) {
    this.chart = chart;
    const drawn = chart?.points.some(drawable) ?? false;
    this.host.hidden = !drawn;
    this.draw();
    return drawn;
  }

  draw() {
    const { chart } = this;
    if (this.host.hidden || !chart) {
      this.svg.replaceChildren();
      this.reading.hidden = true;
      return;
    }
    const { points } = chart;
    const width = Math.max(280, this.host.clientWidth);
    const height = this.host.clientHeight || 260;
    const narrow = width < 520;
    const box = { left: narrow ? 40 : 58, right: width - (narrow ? 86 : 100), top: 12, bottom: height - 24 };
    const range = extent(chart, points, 1);
    const y = scale(range, box.bottom, box.top);
    const step = points.length > 1 ? (box.right - box.left - 12) / (points.length - 1) : 0;
    const x = (i) => box.left + 6 + i * step;
    const decimals = decimalsFor(range[1] - range[0]);
    Object.assign(this, { points, box, x, y, step, decimals });

    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const out = points.filter(signals).length;
    this.svg.setAttribute("aria-label",
      `Control chart of ${chart.device} / ${chart.tag}: ${points.length} points, ${out} with a signal`);
    this.svg.replaceChildren(
      ...this.grid(range), ...this.limits(), ...this.times(narrow), ...this.marks(),
      this.cross = shape("g", { class: "cross" }),
    );
    this.read();
  }

  grid(range) {
    const { box, y } = this;
    const values = ticks(range, 5);
    // As many as the step needs: 6.25 is not 6.3.
    const coarse = Math.max(0, this.decimals - 2);
    const even = values.every((value) => Math.abs(value - Number(value.toFixed(coarse))) < 1e-3 * (range[1] - range[0]));
    const decimals = even ? coarse : coarse + 1;
    return values.flatMap((value) => [
      shape("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }),
      shape("text", { class: "tick", x: box.left - 8, y: y(value) + 4, "text-anchor": "end" },
        measure(value, decimals)),
    ]);
  }

  limits() {
    const { box, chart, y } = this;
    const parts = [];
    const { lcl, center, ucl } = chart;
    if (isNumber(lcl) && isNumber(ucl)) {
      parts.push(shape("rect", {
        class: "band", x: box.left, width: box.right - box.left, y: y(ucl), height: Math.max(0, y(lcl) - y(ucl)),
      }));
    }
    // The zones the run rules count in: thirds of the way to a limit.
    if (isNumber(center) && isNumber(ucl) && isNumber(lcl)) {
      for (const third of [1, 2]) {
        for (const limit of [lcl, ucl]) {
          const at = y(center + ((limit - center) * third) / 3);
          parts.push(shape("line", { class: "zone", x1: box.left, x2: box.right, y1: at, y2: at }));
        }
      }
    }
    const lines = [["UCL", ucl, "limit"], ["CL", center, "center"], ["LCL", lcl, "limit"]];
    const labels = [];
    for (const [name, value, kind] of lines) {
      if (isNumber(value)) {
        parts.push(shape("line", { class: kind, x1: box.left, x2: box.right, y1: y(value), y2: y(value) }));
        labels.push({ name, kind, y: y(value) + 4, text: measure(value, this.decimals) });
      }
    }
    for (const label of spread(labels, 15)) {
      parts.push(shape("text", { class: `label ${label.kind}`, x: box.right + 8, y: label.y },
        shape("tspan", { class: "name" }, label.name), ` ${label.text}`));
    }
    return parts;
  }

  times(narrow) {
    const { box, points, x } = this;
    const wanted = Math.min(points.length, narrow ? 3 : 6);
    const parts = [];
    const span = new Date(points.at(-1)?.time) - new Date(points[0]?.time);
    const fine = span < 2000 * wanted;
    for (let n = 0; n < wanted; n += 1) {
      const i = Math.round((n * (points.length - 1)) / Math.max(1, wanted - 1));
      const anchor = n === 0 ? "start" : n === wanted - 1 ? "end" : "middle";
      parts.push(shape("text", { class: "tick", x: x(i), y: box.bottom + 18, "text-anchor": anchor },
        timeOfDay(points[i].time, fine)));
    }
    parts.push(shape("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
    return parts;
  }

  marks() {
    const { points, x, y } = this;
    const parts = [shape("path", { class: "run", d: linePath(points, x, y) })];
    const calm = points
      .map((p, i) => (signals(p) || !drawable(p) ? "" : `M${(x(i) - 1.8).toFixed(1)} ${y(p.value).toFixed(1)}a1.8 1.8 0 1 0 3.6 0a1.8 1.8 0 1 0 -3.6 0`))
      .join("");
    parts.push(shape("path", { class: "dots", d: calm }));
    const marks = points.map((p, i) => (signals(p) ? diamond(x(i), y(p.value), 5) : "")).join("");
    parts.push(shape("path", { class: "signal", d: marks }));
    const foot = this.box.bottom - 5;
    const gaps = points
      .map((p, i) => (drawable(p) ? "" : `M${(x(i) - 3).toFixed(1)} ${foot - 3}l6 6m0 -6l-6 6`))
      .join("");
    parts.push(shape("path", { class: "gap", d: gaps }));
    return parts;
  }

  point(event) {
    if (event === null) {
      this.pointer = null;
    } else {
      const frame = this.svg.getBoundingClientRect();
      this.pointer = ((event.clientX - frame.left) / frame.width) * this.svg.viewBox.baseVal.width;
    }
    this.read();
  }

  /** Shows the point nearest to the pointer: time, value, and the rules that fired on it. */
  read() {
    const { points, box, x, y } = this;
    if (this.pointer === null || !points?.length || !this.cross) {
      this.reading.hidden = true;
      this.cross?.replaceChildren();
      return;
    }
    const nearest = this.step > 0 ? Math.round((this.pointer - x(0)) / this.step) : 0;
    const i = Math.min(points.length - 1, Math.max(0, nearest));
    const point = points[i];
    this.cross.replaceChildren(
      shape("line", { x1: x(i), x2: x(i), y1: box.top, y2: box.bottom }),
      ...(drawable(point) ? [shape("circle", { cx: x(i), cy: y(point.value), r: 4.5 })] : []),
    );
    const value = drawable(point)
      ? `${measure(point.value, this.decimals)} ${this.chart.unit}`.trim()
      : "✕ no valid value";
    this.reading.replaceChildren(
      element("strong", {}, value),
      element("span", {}, timeOfDay(point.time, true)),
      ...(point.signalled ? [element("em", {}, `◆ ${signalText(point.signalled)}`)] : []),
    );
    this.reading.hidden = false;
    const right = x(i) > (box.left + box.right) / 2;
    const share = this.host.clientWidth / this.svg.viewBox.baseVal.width;
    this.reading.style.left = right ? "" : `${x(i) * share + 12}px`;
    this.reading.style.right = right ? `${this.host.clientWidth - x(i) * share + 12}px` : "";
  }
}
