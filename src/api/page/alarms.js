// The panel of alarms: what is wrong, until somebody has seen it and it is over.

import { act, ask, repeat } from "./stream.js";
import { element, say, timeOfDay } from "./text.js";

const LOOK = 2000;
const SHOWN = 8;

/** The next thing to be done with an alarm: its name in the API, and the word on the button. */
function next(alarm) {
  if (!alarm.enabled) {
    return ["enable", "Enable"];
  }
  if (!alarm.acknowledged) {
    return ["acknowledge", "Acknowledge"];
  }
  return alarm.confirmed ? null : ["confirm", "Confirm"];
}

function stateOf(alarm) {
  const cause = alarm.active ? "active" : "over";
  const seen = alarm.confirmed ? "dealt with" : alarm.acknowledged ? "seen" : "unseen";
  if (!alarm.enabled) {
    return `${cause}, disabled`;
  }
  return alarm.shelving === "unshelved" ? `${cause}, ${seen}` : `${cause}, ${seen}, shelved`;
}

export class Alarms {
  constructor(panel) {
    this.panel = panel;
    this.list = panel.querySelector("ol");
    this.none = panel.querySelector(".empty");
    this.problem = panel.querySelector(".problem");
    this.key = "";
    repeat(LOOK, () => this.look());
  }

  async look() {
    const { alarms, beyond } = await ask("/api/v1/alarms");
    const key = JSON.stringify([alarms.map((alarm) => alarm.event), beyond]);
    if (key === this.key) {
      return;
    }
    this.key = key;
    const items = alarms.slice(0, SHOWN).map((alarm) => this.item(alarm));
    const more = alarms.length - items.length + beyond;
    if (more > 0) {
      items.push(element("li", { class: "rest" }, `and ${more} more`));
    }
    this.list.replaceChildren(...items);
    this.none.hidden = alarms.length > 0;
  }

  item(alarm) {
    const todo = next(alarm);
    const severity = alarm.severity > 600 ? "bad" : "warn";
    const item = element("li", { "data-severity": severity, "data-active": alarm.active },
      element("b", {}, alarm.id),
      element("small", {}, `${stateOf(alarm)}, since ${timeOfDay(alarm.since)}`),
      element("span", { title: alarm.message }, alarm.message));
    if (alarm.comment) {
      item.append(element("small", {}, `${alarm.user}: ${alarm.comment}`));
    }
    if (todo) {
      const [action, word] = todo;
      const button = element("button", { type: "button" }, word);
      button.addEventListener("click", () => this.act(button, action, alarm));
      item.append(button);
    }
    return item;
  }

  async act(button, action, alarm) {
    button.disabled = true;
    try {
      // What was seen is named: should it have changed since, nothing is done.
      await act(`/api/v1/alarms/${action}`, { id: alarm.id, event: alarm.event });
      say(this.problem, "");
    } catch (error) {
      say(this.problem, `✕ ${error.message}`);
      button.disabled = false;
    }
    this.problem.hidden = this.problem.textContent === "";
    await this.look().catch(() => {});
  }
}
