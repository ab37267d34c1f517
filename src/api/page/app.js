// The dashboard: what the stream says, put where it belongs.

import { Alarms } from "./alarms.js";
import { drawTrend } from "./chart.js";
import { Detail, addressOf, chosen } from "./detail.js";
import { Devices, condition } from "./devices.js";
import { Ledger } from "./ledger.js";
import { entered, leftOut } from "./login.js";
import { listen } from "./stream.js";
import { count, element, say, seconds, shortHash, timeOfDay } from "./text.js";

const LATCH = 15000;
const CONDITIONS = 3;

await entered();

const find = (id) => document.getElementById(id);
const devices = new Devices(find("devices"));
const detail = new Detail();
const ledger = new Ledger();
new Alarms(find("alarms"));
const rates = [];
let lastStatus = null;
let link = { live: false };
const latched = new Map();

// ---- the readouts

function showStatus(status) {
  lastStatus = { status, at: Date.now() };
  document.title = `${status.hub} · Weighbridge`;
  say(find("hub"), status.hub);
  say(find("height"), count(status.height));
  say(find("tip"), shortHash(status.last_block_hash));
  find("tip").title = status.last_block_hash ?? "";
  say(find("rate"), count(status.points_per_second));
  for (const name of ["accepted", "out_of_control", "invalid"]) {
    say(find(name), count(status.batches[name]));
    find(name).parentElement.toggleAttribute("data-any", status.batches[name] > 0);
  }
  say(find("answering"), `${status.devices.up} of ${status.devices.total}`);
  find("answering").parentElement.toggleAttribute("data-alarm", status.devices.down > 0);
  say(find("dropped"), count(status.dropped));
  find("dropped").parentElement.toggleAttribute("data-alarm", status.dropped > 0);
  find("opcua-place").hidden = !status.opcua_url;
  say(find("opcua"), status.opcua_url ?? "");
  rates.push(status.points_per_second);
  rates.splice(0, rates.length - 60);
  drawTrend(find("rate-trend"), rates, 72, 22);
  showAge();
}

function showAge() {
  const made = lastStatus?.status.last_block_time;
  if (made) {
    const told = new Date(lastStatus.status.time) - new Date(made);
    const age = (told + Date.now() - lastStatus.at) / 1000;
    say(find("tip-age"), age < 1 ? "now" : `${seconds(age)} ago`);
  }
}

// ---- the link to the hub

function showLink(state) {
  link = state;
  document.body.dataset.link = state.live ? "live" : "lost";
  if (state.live) {
    say(find("link"), "● live");
    return;
  }
  if (state.retryAt !== showLink.looked) {
    showLink.looked = state.retryAt;
    leftOut();
  }
  const left = Math.max(0, Math.ceil((state.retryAt - Date.now()) / 1000));
  const since = lastStatus ? `, last word ${timeOfDay(lastStatus.at)}` : "";
  say(find("link"), `✕ connection lost${since}; ${left > 0 ? `next attempt in ${left} s` : "trying now"}`);
}

// ---- conditions: what needs somebody, now or a moment ago

function showConditions() {
  const now = new Map(devices.conditions().map((one) => [one.device, one]));
  const trouble = lastStatus?.status.ledger_trouble;
  const ledgers = trouble ? [{ severity: "bad", text: `✕ The ledger takes no blocks: ${trouble}` }] : [];
  for (const [device, one] of latched) {
    if (one.until < Date.now()) {
      latched.delete(device);
    } else if (!now.has(device)) {
      now.set(device, { ...one, past: true });
    }
  }
  const all = [...ledgers, ...now.values()];
  const shown = all.slice(0, CONDITIONS);
  const key = JSON.stringify(all);
  if (key === showConditions.key) {
    return;
  }
  showConditions.key = key;
  const items = shown.map((one) => element("li", {
    "data-severity": one.severity, "data-past": one.past, title: one.text,
  }, one.past ? `${one.text} (until ${timeOfDay(one.time)})` : one.text));
  if (all.length > shown.length) {
    items.push(element("li", { class: "rest" }, `and ${all.length - shown.length} more`));
  }
  if (items.length === 0) {
    items.push(element("li", { "data-severity": "none" }, "✓ Nothing out of the ordinary"));
  }
  find("conditions").replaceChildren(...items);
}

function alarm(one) {
  const known = latched.get(one.device);
  latched.set(one.device, { ...one, until: Date.now() + LATCH });
  if (!known) {
    // Spoken once, not with every batch of a lasting fault.
    say(find("announcer"), one.text);
  }
  showConditions();
}

// ---- choosing a tag

function choose() {
  const choice = chosen();
  if (choice) {
    detail.choose(choice.device, choice.tag);
    showChosen();
  }
  devices.mark();
}

function showChosen() {
  const choice = chosen();
  const tag = choice ? devices.tag(choice.device, choice.tag) : null;
  if (tag) {
    detail.sample(tag);
  }
}

window.addEventListener("hashchange", () => {
  choose();
  // The chart stands above the devices: a click far down must not seem to do nothing.
  document.querySelector(".detail").scrollIntoView({ block: "nearest" });
});

listen("/api/v1/events", {
  picture({ status, devices: list, blocks, refusals }) {
    devices.picture(list);
    ledger.picture(blocks, refusals);
    showStatus(status);
    showConditions();
    const first = devices.first();
    if (!chosen() && first) {
      history.replaceState(null, "", addressOf(first.device, first.tag));
    }
    choose();
  },
  live({ devices: changes }) {
    devices.change(changes);
    showChosen();
    showConditions();
  },
  status: showStatus,
  blocks({ blocks }) {
    ledger.addBlocks(blocks);
  },
  refusals({ refusals }) {
    ledger.addRefusals(refusals);
  },
  verdict({ device, verdict }) {
    alarm(condition(device, verdict));
  },
}, showLink);

setInterval(() => {
  if (link.live) {
    showAge();
  } else if (link.retryAt) {
    showLink(link);
  }
  showConditions();
}, 500);
