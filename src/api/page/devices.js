// The devices: a card each, by group, with link, verdict, and a row for each tag.

import { drawSmall } from "./chart.js";
import { addressOf, chosen } from "./detail.js";
import { ask, repeat } from "./stream.js";
import { count, element, qualityText, reasonText, say, seconds, shape, timeOfDay, valueText, verdicts } from "./text.js";

const FIRST_ROWS = 6;
const SMALL = { width: 116, height: 30, points: 48 };
const PERIOD = 2000;

const links = { up: "● answering", starting: "○ starting", down: "✕ not answering" };

const columns = [["Tag", "name"], ["Control chart", "chart"], ["Value", "number"], ["Quality", "grade"]];

/** One tag of a card. */
class Row {
  constructor(tag) {
    this.tag = tag;
    this.address = addressOf(tag.device, tag.tag);
    this.svg = shape("svg", {
      class: "small", "aria-hidden": "true", preserveAspectRatio: "none",
    });
    this.value = element("b");
    this.quality = element("span", { class: "quality" });
    const name = element("a", { href: this.address, title: tag.description || tag.tag }, tag.tag);
    const charted = !["text", "bytes"].includes(tag.kind);
    this.node = element("tr", {},
      element("th", { scope: "row" }, name),
      ...(charted ? [element("td", { class: "chart" }, this.svg)] : []),
      element("td", { class: "number", colspan: charted ? null : 2 },
        this.value, element("small", {}, ` ${tag.unit}`)),
      element("td", { class: "grade" }, this.quality),
    );
    this.node.addEventListener("click", () => {
      location.hash = this.address;
    });
    this.show();
  }

  show() {
    const { sample } = this.tag;
    say(this.value, valueText(this.tag));
    say(this.quality, qualityText(sample));
    this.quality.dataset.quality = sample?.quality ?? "None";
    this.quality.title = sample ? `${sample.status}, ${sample.time}` : "";
    this.node.dataset.quality = sample?.quality ?? "None";
  }
}

/** One device. */
class Card {
  constructor({ device, tags }) {
    this.device = device;
    this.rows = new Map(tags.map((tag) => [tag.tag, new Row(tag)]));
    this.link = element("span", { class: "state" });
    this.trouble = element("p", { class: "trouble", hidden: true });
    this.verdict = element("p", { class: "verdict" });
    this.counts = element("p", { class: "counts" });
    this.body = element("tbody");
    this.more = element("button", { type: "button", class: "more" });
    this.shown = FIRST_ROWS;
    this.seen = false;
    this.node = element("article", { class: "panel card" },
      element("header", {},
        element("p", { class: "eyebrow" }, device.group ?? "no group"),
        element("h3", {}, device.id),
        this.link,
        element("p", { class: "where" }, [device.protocol, device.address].filter(Boolean).join(" · "))),
      this.trouble,
      element("table", {},
        element("thead", {}, element("tr", {},
          ...columns.map(([name, kind]) => element("th", { class: kind }, name)))),
        this.body),
      this.more,
      element("footer", {}, this.verdict, this.counts));
    this.more.addEventListener("click", () => {
      this.shown = this.shown > FIRST_ROWS ? FIRST_ROWS : this.rows.size;
      this.lay();
      this.load().catch(() => {});
    });
    this.lay();
    this.show();
  }

  /** Puts the rows in that are to be seen. */
  lay() {
    this.body.replaceChildren(...[...this.rows.values()].slice(0, this.shown).map((row) => row.node));
    const hidden = this.rows.size - FIRST_ROWS;
    this.more.hidden = hidden <= 0;
    const beyond = this.device.tag_count - this.rows.size;
    say(this.more, this.shown > FIRST_ROWS
      ? `Show the first ${FIRST_ROWS}${beyond > 0 ? ` (${count(beyond)} more tags by the API)` : ""}`
      : `Show ${hidden} more`);
  }

  change(change) {
    Object.assign(this.device, {
      link: change.link,
      points: change.points,
      dropped: change.dropped,
      reconnects: change.reconnects,
      verdict: change.verdict,
    });
    for (const [name, sample] of Object.entries(change.samples)) {
      const row = this.rows.get(name);
      if (row) {
        row.tag.sample = sample;
        row.show();
      }
    }
    this.show();
  }

  show() {
    const { device } = this;
    this.node.dataset.link = device.link.state;
    say(this.link, links[device.link.state]);
    this.tick();
    const verdict = device.verdict;
    this.node.dataset.verdict = verdict?.class ?? "none";
    const words = verdict ? verdicts[verdict.class] : null;
    say(this.verdict, !words ? "○ no batch judged yet"
      : `${words.symbol} ${words.words}${verdict.reason && verdict.class !== "accepted" ? `: ${reasonText(verdict.reason)}` : ""}`);
    const parts = [`${count(device.points)} points`];
    if (device.reconnects) {
      parts.push(`${count(device.reconnects)} reconnects`);
    }
    if (device.dropped) {
      parts.push(`${count(device.dropped)} dropped`);
    }
    say(this.counts, parts.join(" · "));
  }

  /** What runs with the clock: the wait for the next attempt. */
  tick() {
    const { link } = this.device;
    this.trouble.hidden = link.state !== "down";
    if (link.state === "down") {
      const left = (new Date(link.retry_at) - Date.now()) / 1000;
      const next = left > 0 ? `next attempt in ${seconds(left)}` : "trying again now";
      const last = link.last_success ? `last read ${timeOfDay(link.last_success, true)}` : "never read since the hub started";
      const exact = link.error ? ` (${link.error})` : "";
      say(this.trouble, `${link.reason}${exact}; ${last}; ${next}`);
    }
  }

  /** Fetches the small charts. */
  async load() {
    const limit = Math.min(this.shown, this.rows.size);
    if (!this.seen || limit === 0) {
      return;
    }
    const id = encodeURIComponent(this.device.id);
    const answer = await ask(`/api/v1/devices/${id}/charts?points=${SMALL.points}&limit=${limit}`);
    for (const tag of answer.tags) {
      const row = this.rows.get(tag.tag);
      if (row) {
        drawSmall(row.svg, tag, SMALL.width, SMALL.height);
      }
    }
  }

  mark(choice) {
    for (const row of this.rows.values()) {
      const is = choice?.device === this.device.id && choice.tag === row.tag.tag;
      row.node.toggleAttribute("data-chosen", is);
      row.node.querySelector("a").setAttribute("aria-current", is);
    }
  }
}

/** All devices. */
export class Devices {
  constructor(host) {
    this.host = host;
    this.cards = new Map();
    this.watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const card = this.cards.get(entry.target.dataset.device);
        if (card) {
          const appeared = entry.isIntersecting && !card.seen;
          card.seen = entry.isIntersecting;
          if (appeared) {
            card.load().catch(() => {});
          }
        }
      }
    }, { rootMargin: "200px" });
    repeat(PERIOD, async () => {
      // One after the other: a browser has few connections, and the chosen tag needs one.
      for (const card of this.cards.values()) {
        await card.load();
      }
    });
    setInterval(() => this.cards.forEach((card) => card.tick()), 500);
  }

  /** Shows all devices anew. */
  picture(devices) {
    const shape = (list) => list.map(({ device, tags }) => `${device.id}:${device.tag_count}:${tags.length}`).join();
    const same = this.laid === shape(devices);
    for (const { device, tags } of devices) {
      const card = same ? this.cards.get(device.id) : null;
      if (card) {
        card.device = device;
        for (const tag of tags) {
          Object.assign(card.rows.get(tag.tag)?.tag ?? {}, tag);
          card.rows.get(tag.tag)?.show();
        }
        card.show();
      }
    }
    if (!same) {
      this.laid = shape(devices);
      this.lay(devices);
    }
  }

  lay(devices) {
    this.watcher.disconnect();
    this.cards = new Map(devices.map((one) => [one.device.id, new Card(one)]));
    const groups = new Map();
    for (const card of this.cards.values()) {
      const group = card.device.group ?? "";
      groups.set(group, [...(groups.get(group) ?? []), card]);
    }
    this.host.replaceChildren(...[...groups].map(([group, cards]) => element("section", { class: "group" },
      element("h2", { class: "unseen" }, group ? `Devices of ${group}` : "Devices"),
      ...cards.map((card) => card.node))));
    for (const [id, card] of this.cards) {
      card.node.dataset.device = id;
      this.watcher.observe(card.node);
    }
    this.mark();
  }

  change(changes) {
    for (const change of changes) {
      this.cards.get(change.id)?.change(change);
    }
  }

  mark() {
    const choice = chosen();
    this.cards.forEach((card) => card.mark(choice));
  }

  /** A tag with its newest sample. */
  tag(device, tag) {
    return this.cards.get(device)?.rows.get(tag)?.tag ?? null;
  }

  /** The first tag that has a number. */
  first() {
    for (const card of this.cards.values()) {
      for (const row of card.rows.values()) {
        if (row.tag.kind === "f64") {
          return row.tag;
        }
      }
    }
    return null;
  }

  /** What is not as it should be now. */
  conditions() {
    return [...this.cards.values()].flatMap(({ device }) => {
      const { link, verdict } = device;
      if (link.state === "down") {
        return [{ device: device.id, severity: "bad", text: `✕ ${device.id} does not answer: ${link.reason}` }];
      }
      if (verdict && verdict.class !== "accepted") {
        return [condition(device.id, verdict)];
      }
      return [];
    });
  }
}

/** A verdict that needs somebody, as a condition. */
export function condition(device, verdict) {
  const { symbol, words } = verdicts[verdict.class];
  return {
    device,
    severity: verdict.class === "invalid" ? "bad" : "warn",
    text: `${symbol} ${device} ${words}: ${reasonText(verdict.reason)}`,
    time: verdict.time,
  };
}
