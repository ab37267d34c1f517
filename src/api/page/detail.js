// The chosen tag: its value now, its control chart, and the points that a rule fired on.

import { ControlChart } from "./chart.js";
import { ask, repeat } from "./stream.js";
import { count, element, measure, moment, qualityText, say, signalText, valueText } from "./text.js";

const POINTS = 120;
const PERIOD = 1000;
const LISTED = 50;

/** `#/device/tag` of the page's address; `null` when there is none. */
export function chosen() {
  const [empty, device, tag] = location.hash.slice(1).split("/");
  try {
    return empty === "" && device && tag
      ? { device: decodeURIComponent(device), tag: decodeURIComponent(tag) }
      : null;
  } catch {
    // Somebody typed a lone percent sign.
    return null;
  }
}

/** The address of a tag on this page. */
export function addressOf(device, tag) {
  return `#/${encodeURIComponent(device)}/${encodeURIComponent(tag)}`;
}

export class Detail {
  constructor() {
    const find = (name) => document.getElementById(`detail-${name}`);
    this.title = find("title");
    this.now = find("now");
    this.caption = find("caption");
    this.signals = find("signals");
    this.summary = find("signals-summary");
    this.rows = find("signals-rows");
    this.chart = new ControlChart(find("plot"));
    this.tag = null;
    this.shown = false;
    repeat(PERIOD, () => this.load());
  }

  /** Chooses a tag. */
  choose(device, tag) {
    if (this.tag?.device === device && this.tag.tag === tag) {
      return;
    }
    this.tag = { device, tag };
    this.shown = false;
    say(this.title, `${device} / ${tag}`);
    this.now.replaceChildren();
    this.load().catch(() => {});
  }

  /** Shows the newest sample of the chosen tag. */
  sample(tag) {
    const quality = element("span", { class: "quality", "data-quality": tag.sample?.quality ?? "None" },
      qualityText(tag.sample));
    this.now.replaceChildren(element("b", {}, valueText(tag)), ` ${tag.unit} `, quality);
  }

  async load() {
    if (!this.tag) {
      return;
    }
    const { device, tag } = this.tag;
    const path = `/api/v1/devices/${encodeURIComponent(device)}/tags/${encodeURIComponent(tag)}/chart`;
    try {
      const chart = await ask(`${path}?points=${POINTS}`);
      if (this.tag.device === device && this.tag.tag === tag) {
        this.show(chart);
      }
    } catch (error) {
      // What was shown before stays: the link's state says that it is old.
      if (!this.shown) {
        say(this.caption, error.message);
        this.chart.show(null);
        this.signals.hidden = true;
      }
      throw error;
    }
  }

  show(chart) {
    this.shown = true;
    const drawn = this.chart.show(chart);
    if (drawn) {
      const limited = typeof chart.lcl === "number" || typeof chart.ucl === "number";
      say(this.caption, `${sentence(chart.basis)} The newest ${count(chart.points.length)} samples. `
        + `${limited ? "Dashed: control limits. " : ""}◆ a rule fired.`);
    } else {
      say(this.caption, chart.basis === null
        ? "No control chart: nothing was judged yet, or the tag is not a number."
        : `${sentence(chart.basis)} No valid value yet.`);
    }
    this.signals.hidden = !drawn;
    this.showSignals(chart.points.filter((point) => point.signalled).reverse());
  }

  showSignals(found) {
    const latest = found[0];
    say(this.summary, latest
      ? `${count(found.length)} ${found.length === 1 ? "signal" : "signals"} in view, the last: ${signalText(latest.signalled)}`
      : "No signal in view");
    this.summary.toggleAttribute("data-any", Boolean(latest));
    this.rows.replaceChildren(...found.slice(0, LISTED).map((point) => element("tr", {},
      element("td", {}, moment(point.time)),
      element("td", { class: "number" }, point.bad ? "–" : measure(point.value)),
      element("td", {}, signalText(point.signalled)),
    )));
  }
}

function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
