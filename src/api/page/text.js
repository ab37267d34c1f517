// How things are put into words, and into elements. Text from outside only ever becomes a text
// node: there is no markup made from strings anywhere on this page.

/** An element: tag name, attributes, children (elements or texts). */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(name, value === true ? "" : value);
    }
  }
  made.append(...children);
  return made;
}

/** Sets a text only when it differs, so that selections and screen readers are left in peace. */
export function say(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) {
    node.textContent = wanted;
  }
}

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function count(number) {
  return whole.format(number);
}

/** Decimals that suit numbers which spread over `span`: about a thousandth of it. */
export function decimalsFor(span) {
  if (!(span > 0) || !Number.isFinite(span)) {
    return 3;
  }
  return Math.min(9, Math.max(0, 3 - Math.floor(Math.log10(span))));
}

/** A measured number; `decimals` keeps a tag's digits from dancing. */
export function measure(number, decimals) {
  if (typeof number !== "number") {
    return String(number);
  }
  if (decimals !== undefined) {
    // "-0.00" would be a sign without a number.
    return number.toFixed(decimals).replace(/^-(?=[0.]+$)/, "");
  }
  const size = Math.abs(number);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) {
    return number.toExponential(3);
  }
  return number.toFixed(size >= 1000 ? 1 : size >= 10 ? 2 : 3);
}

/** The value of a sample of `tag`. */
export function valueText(tag) {
  const sample = tag.sample;
  if (!sample) {
    return "–";
  }
  if (typeof sample.value === "number" && tag.kind === "f64") {
    const decimals = tag.range ? decimalsFor(tag.range[1] - tag.range[0]) : undefined;
    return measure(sample.value, decimals);
  }
  return typeof sample.value === "number" ? count(sample.value) : String(sample.value);
}

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

const fineClock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 1, hourCycle: "h23",
});

/** Time of day, here; with tenths of a second where `fine`. */
export function timeOfDay(text, fine = false) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? String(text) : (fine ? fineClock : clock).format(time);
}

/** A moment as an element that also holds the exact time. */
export function moment(text) {
  return element("time", { datetime: text, title: text }, timeOfDay(text));
}

export function seconds(number) {
  if (number < 60) {
    return `${number.toFixed(number < 10 ? 1 : 0)} s`;
  }
  return number < 3600 ? `${Math.floor(number / 60)} min` : `${Math.floor(number / 3600)} h`;
}

export function shortHash(hash) {
  return hash ? hash.slice(0, 8) : "–";
}

/** Verdicts: symbol and words. */
export const verdicts = {
  accepted: { symbol: "✓", words: "in control" },
  out_of_control: { symbol: "▲", words: "out of control" },
  invalid: { symbol: "✕", words: "refused" },
};

const qualitySymbols = { Good: "✓", Uncertain: "▲", Bad: "✕" };

/** Quality of a sample: symbol and word. */
export function qualityText(sample) {
  return sample ? `${qualitySymbols[sample.quality] ?? "?"} ${sample.quality}` : "○ none yet";
}

const charts = {
  sensor: "Sensor",
  individuals: "Individuals",
  moving_range: "Moving range",
  xbar_s: "X̄-S",
  ewma: "EWMA",
  cusum: "CUSUM",
  western_electric: "Western Electric",
  nelson: "Nelson",
};

// Wording of Nelson 1984; the hub names its rules by number only.
const rules = {
  rule_1: " 1: beyond 3σ",
  rule_2: " 2: nine in a row on one side",
  rule_3: " 3: six in a row rising or falling",
  rule_4: " 4: fourteen in a row alternating",
  rule_5: " 5: two of three beyond 2σ on one side",
  rule_6: " 6: four of five beyond 1σ on one side",
  rule_7: " 7: fifteen in a row within 1σ",
  rule_8: " 8: eight in a row beyond 1σ on either side",
};

/** Chart and rule that fired, for people: from "nelson rule_2" to "Nelson 2: nine in a row …". */
export function signalText(signalled) {
  const [chart, rule = ""] = signalled.split(" ");
  const name = charts[chart] ?? chart.replaceAll("_", " ");
  const words = rules[rule] ?? `: ${rule.replaceAll("_", " ").replace("sigma", "σ")}`;
  return `${name}${words}`;
}

/** Why a batch was not accepted, in the words of this page and with the time of day here. */
export function reasonText(reason) {
  const said = reason.replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, (time) => timeOfDay(time, true));
  const [, chart, rule, why] = /^(\w+) (\w+): (.*)$/s.exec(said) ?? [];
  return chart && Object.hasOwn(charts, chart) ? `${signalText(`${chart} ${rule}`)}; ${why}` : said;
}
