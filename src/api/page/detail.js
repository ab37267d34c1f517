// The chosen tag: its value now, its control charts, and the points that a rule fired on.

import { ControlChart } from "./chart.js";
import { ask, repeat } from "./stream.js";
import { chartName, element, measure, moment, qualityText, ruleText, say, valueText } from "./text.js";

const POINTS = 120;
const PERIOD = 1000;

/** `#/device/tag` of the page's address; `null` when there is none. */
export function chosen() {
  const [empty, device, tag] = location.hash.slice(1).split("/");
  return empty === "" && device && tag
    ? { device: decodeURIComponent(device), tag: decodeURIComponent(tag) }
    : null;
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
    this.tabs = find("tabs");
    this.caption = find("caption");
    this.signals = find("signals");
    this.summary = find("signals-summary");
    this.rows = find("signals-rows");
    this.chart = new ControlChart(find("plot"));
    this.tag = null;
    this.answer = null;
    this.which = null;
    repeat(PERIOD, () => this.load());
  }

  /** Chooses a tag. */
  choose(device, tag) {
    this.tag = { device, tag };
    this.answer = null;
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
      const answer = await ask(`${path}?points=${POINTS}`);
      if (this.tag.device === device && this.tag.tag === tag) {
        this.answer = answer;
        this.show();
      }
    } catch (error) {
      if (!this.answer) {
        say(this.caption, error.message);
        this.chart.show("", "", null);
      }
      throw error;
    }
  }

  show() {
    const { answer } = this;
    const names = answer.charts.map((chart) => chart.name);
    if (!names.includes(this.which)) {
      this.which = names[0] ?? null;
    }
    this.showTabs(names);
    const chart = answer.charts.find((one) => one.name === this.which);
    this.chart.show(`${answer.device} / ${answer.tag}`, answer.unit, chart ?? null);
    say(this.caption, this.captionText(chart));
    this.showSignals();
  }

  captionText(chart) {
    const { answer } = this;
    if (answer.phase === null) {
      return "This tag has no control chart: only numbers are charted.";
    }
    if (answer.phase === "learning") {
      const [have, need] = answer.learned;
      return `Phase I: the limits are being learned from ${need} good samples, ${have} so far.`;
    }
    if (!chart || chart.points.length === 0) {
      return "No point yet.";
    }
    return `${chartName(chart.name)} chart, the newest ${chart.points.length} points. `
      + "Shaded: between the control limits. ◆ marks a point that a rule fired on.";
  }

  showTabs(names) {
    const shown = [...this.tabs.children].map((tab) => tab.dataset.chart);
    if (shown.join() !== names.join()) {
      this.tabs.replaceChildren(...names.map((name) => {
        const tab = element("button", { type: "button", "data-chart": name }, chartName(name));
        tab.addEventListener("click", () => {
          this.which = name;
          this.show();
        });
        return tab;
      }));
    }
    for (const tab of this.tabs.children) {
      tab.setAttribute("aria-pressed", tab.dataset.chart === this.which);
    }
    this.tabs.hidden = names.length < 2;
  }

  showSignals() {
    const found = this.answer.charts.flatMap((chart) => chart.points
      .filter((point) => point.rules)
      .map((point) => ({ chart: chart.name, ...point })));
    found.sort((a, b) => (a.time < b.time ? 1 : -1));
    this.signals.hidden = this.answer.charts.length === 0;
    const latest = found[0];
    say(this.summary, latest
      ? `${found.length} ${found.length === 1 ? "signal" : "signals"} in view, the last one ${chartName(latest.chart)}: ${latest.rules.map(ruleText).join(", ")}`
      : "No signal in view");
    this.rows.replaceChildren(...found.slice(0, 50).map((point) => element("tr", {},
      element("td", {}, moment(point.time)),
      element("td", {}, chartName(point.chart)),
      element("td", { class: "number" }, measure(point.value)),
      element("td", {}, point.rules.map(ruleText).join(", ")),
    )));
  }
}
